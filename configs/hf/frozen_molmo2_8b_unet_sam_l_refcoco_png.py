"""Molmo 2 8B: 2 views (14 x 14 of the whole picture, and its crops put together) x 36 layers x 32 heads."""

from mmengine.config import read_base

from flmm.models.grids import AnyresGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="allenai/Molmo2-8B")
image_token, user = "<|image|>", "<|im_start|>user\n"  # the picture stands before the user's turn
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(image_token=image_token, trim=(1, 0))  # the start of a text
asked = "{input}<|im_end|>\n<|im_start|>assistant\n"
builder.update(
    image_token=image_token,
    prompt=image_token + user + instruction,
    prompt_template=dict(INSTRUCTION=asked, FOLLOW_UP=user + asked, SUFFIX="<|im_end|>", SEP="\n"),
)
model.update(grid=dict(type=AnyresGrid))
