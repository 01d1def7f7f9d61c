"""InternVL3-8B: 2 views (16 x 16 of the whole picture, and its 2 to 6 tiles of 16 x 16) x 28 layers x 28 heads."""

from mmengine.config import read_base

from flmm.datasets.hf_processors import canvas_layout
from flmm.models.grids import TileGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="OpenGVLab/InternVL3-8B-hf")
image_token = "<IMG_CONTEXT>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(
    image_token=image_token,
    layout=canvas_layout,
    call=dict(crop_to_patches=True, min_patches=2, max_patches=6),  # one tile alone would leave no view of tiles
)
builder.update(
    image_token=image_token,
    prompt=image_token + "\n" + instruction,
    prompt_template=dict(
        INSTRUCTION="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        SYSTEM="<|im_start|>system\n{system}<|im_end|>\n",
        SUFFIX="<|im_end|>",
        SEP="\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(grid=dict(type=TileGrid, side=16))
