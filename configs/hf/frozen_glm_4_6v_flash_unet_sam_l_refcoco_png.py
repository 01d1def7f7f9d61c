"""GLM-4.6V-Flash: 40 layers x 32 heads, one view at the picture's own proportions (a token per 28 x 28 pixels)."""

from mmengine.config import read_base

from flmm.models.grids import PatchGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="zai-org/GLM-4.6V-Flash")
image_token = "<|image|>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(image_token=image_token)
builder.update(
    image_token=image_token,
    prompt="<|begin_of_image|>" + image_token + "<|end_of_image|>" + instruction,
    prompt_template=dict(INSTRUCTION="[gMASK]<sop><|user|>\n{input}<|assistant|>\n"),
)
model.update(grid=dict(type=PatchGrid))
