"""LLaVA-OneVision-7B: 2 views (27 x 27 of the whole picture, and its un-padded tiles) x 28 layers x 28 heads."""

from mmengine.config import read_base

from flmm.datasets.hf_processors import anyres_layout
from flmm.models.grids import AnyresGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="llava-hf/llava-onevision-qwen2-7b-ov-hf")
image_token = "<image>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(
    image_token=image_token,
    layout=anyres_layout,
)
builder.update(
    image_token=image_token,
    prompt=image_token + "\n" + instruction,
    prompt_template=dict(
        INSTRUCTION="<|im_start|>user {input}<|im_end|><|im_start|>assistant\n",
        SYSTEM="<|im_start|>system\n{system}<|im_end|>\n",
        SUFFIX="<|im_end|>",
        SEP="\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(grid=dict(type=AnyresGrid, side=27))
