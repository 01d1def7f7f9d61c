"""LFM2-VL-1.6B: 6 of its 16 layers attend x 32 heads, one view at the picture's own proportions."""

from mmengine.config import read_base

from flmm.models.grids import PatchGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="LiquidAI/LFM2-VL-1.6B")
image_token = "<image>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(image_token=image_token, call=dict(do_image_splitting=False))
builder.update(
    image_token=image_token,
    prompt=image_token + instruction,
    prompt_template=dict(
        INSTRUCTION="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n", SUFFIX="<|im_end|>", SEP="\n"
    ),
)
model.update(grid=dict(type=PatchGrid))
