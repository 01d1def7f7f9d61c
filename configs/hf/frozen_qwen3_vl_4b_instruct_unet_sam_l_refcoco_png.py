"""Qwen3-VL-4B: 36 layers x 32 heads, one view at the picture's own proportions (a token per 32 x 32 pixels)."""

from mmengine.config import read_base

from flmm.models.grids import PatchGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="Qwen/Qwen3-VL-4B-Instruct")
image_token = "<|image_pad|>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(
    image_token=image_token,
    call=dict(size=dict(shortest_edge=256 * 32 * 32, longest_edge=1280 * 32 * 32)),
)
builder.update(
    image_token=image_token,
    prompt="<|vision_start|>" + image_token + "<|vision_end|>" + instruction,
    prompt_template=dict(
        INSTRUCTION="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        SYSTEM="<|im_start|>system\n{system}<|im_end|>\n",
        SUFFIX="<|im_end|>",
        SEP="\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(grid=dict(type=PatchGrid, merge=2))
