"""Gemma 3 12B: 48 layers x 16 heads, one view of 16 x 16."""

from mmengine.config import read_base

with read_base():
    from .frozen_gemma3_4b_it_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="google/gemma-3-12b-it")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
