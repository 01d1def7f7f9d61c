"""FastVLM-7B: 28 layers x 28 heads, one view of 16 x 16; the picture is stretched to 1024 x 1024, not cropped."""

from mmengine.config import read_base

with read_base():
    from .._base_.image_text import *

lmm = dict(pretrained_model_name_or_path="KamilaMila/FastVLM-7B")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.image_processor.update(
    image_token="<image>", call=dict(do_center_crop=False, size=dict(height=1024, width=1024))
)
chatml = "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n"
system = "<|im_start|>system\n{system}<|im_end|>\n"
default = system.format(system="You are a helpful assistant.")
builder.update(
    prompt="<image>\n" + instruction,
    prompt_template=dict(INSTRUCTION=default + chatml, FOLLOW_UP=chatml, SYSTEM=system, SUFFIX="<|im_end|>", SEP="\n"),
)
