"""MiniCPM-V 4.6: one view at the picture's own proportions (a token per 56 x 56 pixels); some layers attend."""

from mmengine.config import read_base

from flmm.models.grids import PatchGrid

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="openbmb/MiniCPM-V-4.6")
image_token = "<|image_pad|>"
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(image_token=image_token, call=dict(slice_mode=False))
user, assistant = "<|im_start|>user\n{input}<|im_end|>\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n"
builder.update(
    image_token=image_token,
    prompt=image_token + "\n" + instruction,
    prompt_template=dict(INSTRUCTION=user + assistant, SUFFIX="<|im_end|>", SEP="\n"),
)
model.update(grid=dict(type=PatchGrid))
