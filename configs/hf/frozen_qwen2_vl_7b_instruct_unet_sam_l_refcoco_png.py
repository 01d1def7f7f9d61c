"""Qwen2-VL-7B: 28 layers x 28 heads, one view at the picture's own proportions (a token per 28 x 28 pixels)."""

from mmengine.config import read_base

from flmm.models.grids import PatchGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="Qwen/Qwen2-VL-7B-Instruct")
image_token = "<|image_pad|>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(
    image_token=image_token,
    min_pixels=256 * 28 * 28,
    max_pixels=1280 * 28 * 28,
)
builder.update(
    image_token=image_token,
    prompt="<|vision_start|>" + image_token + "<|vision_end|>" + instruction,
    prompt_template=dict(
        INSTRUCTION="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        FOLLOW_UP="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        SYSTEM="<|im_start|>system\n{system}<|im_end|>\n",
        SUFFIX="<|im_end|>",
        SEP="\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(grid=dict(type=PatchGrid, merge=2))
