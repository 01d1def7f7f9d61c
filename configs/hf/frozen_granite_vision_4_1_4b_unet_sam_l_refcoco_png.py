"""Granite Vision 4.1 4B: 2 views (12 x 12 of the whole picture, and its tiles, unpadded)."""

from mmengine.config import read_base

from flmm.datasets.hf_processors import anyres_layout
from flmm.models.grids import AnyresGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="ibm-granite/granite-vision-4.1-4b")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(image_token="<image>", layout=anyres_layout)
role, end = "<|start_of_role|>{}<|end_of_role|>", "<|end_of_text|>"
system = role.format("system") + "{system}" + end + "\n"
asked = role.format("user") + "{input}" + end + "\n" + role.format("assistant")
builder.update(
    prompt="<image>\n" + instruction,
    prompt_template=dict(INSTRUCTION=asked, SYSTEM=system, SUFFIX=end, SEP="\n"),
)
model.update(grid=dict(type=AnyresGrid))
