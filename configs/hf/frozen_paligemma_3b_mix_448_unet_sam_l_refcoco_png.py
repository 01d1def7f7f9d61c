"""PaliGemma-3B at 448 pixels (Gemma): 18 layers x 8 heads, one view of 32 x 32."""

from mmengine.config import read_base

from flmm.models.grids import SquareGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="google/paligemma-3b-mix-448")
image_token = "<image>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.tokenizer.update(add_bos_token=False)  # the processor writes it, after the picture
builder.image_processor.update(
    image_token=image_token,
    trim=1,  # the processor's newline; the template has one
)
builder.update(
    image_token=image_token,
    prompt=image_token + "describe en",  # it knows a few such prefixes, and no free instructions
    prompt_template=dict(INSTRUCTION="{input}\n"),
)
model.update(grid=dict(type=SquareGrid, side=32), prefix_lm=True)
