"""Gemma 4 E4B: one view at the picture's own proportions (a token per 48 x 48 pixels of its frame)."""

from mmengine.config import read_base

from flmm.models.grids import PatchGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="google/gemma-4-E4B-it")
image_token = "<|image|>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(image_token=image_token)
builder.update(
    image_token=image_token,
    prompt=image_token + instruction,
    prompt_template=dict(INSTRUCTION="<|turn>user\n{input}<turn|>\n<|turn>model\n", SUFFIX="<turn|>", SEP="\n"),
)
model.update(grid=dict(type=PatchGrid))
