"""LLaVA-NeXT Mistral 7B: as Vicuna 7B, with Mistral's weights and template."""

from mmengine.config import read_base
from xtuner.utils.templates import PROMPT_TEMPLATE

with read_base():
    from .frozen_llava_next_vicuna_7b_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="llava-hf/llava-v1.6-mistral-7b-hf")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
builder.update(prompt_template=PROMPT_TEMPLATE.mistral)
