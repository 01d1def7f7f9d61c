"""Gemma 3 4B: 34 layers x 8 heads, one view of 16 x 16."""

from mmengine.config import read_base

from flmm.models.grids import SquareGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="google/gemma-3-4b-it")
image_token = "<start_of_image>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(image_token=image_token)
builder.update(
    image_token=image_token,
    prompt=image_token + instruction,
    prompt_template=dict(
        INSTRUCTION="<start_of_turn>user\n{input}<end_of_turn>\n<start_of_turn>model\n",
        SUFFIX="<end_of_turn>",
        SEP="\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(grid=dict(type=SquareGrid, side=16))
