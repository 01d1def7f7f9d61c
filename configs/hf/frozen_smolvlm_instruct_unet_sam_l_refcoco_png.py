"""SmolVLM-2.2B (Idefics3): 2 views (9 x 9 of the whole picture, and its tiles of 9 x 9) x 24 layers x 32 heads."""

from mmengine.config import read_base

from flmm.datasets.hf_processors import split_layout
from flmm.models.grids import TileGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="HuggingFaceTB/SmolVLM-Instruct")
image_token = "<image>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(
    image_token=image_token,
    layout=split_layout,
)
builder.update(
    image_token=image_token,
    prompt=image_token + instruction,
    prompt_template=dict(
        INSTRUCTION="<|im_start|>User:{input}<end_of_utterance>\nAssistant:",
        FOLLOW_UP="User: {input}<end_of_utterance>\nAssistant:",
        SUFFIX="<end_of_utterance>",
        SEP="\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(grid=dict(type=TileGrid, side=9))
