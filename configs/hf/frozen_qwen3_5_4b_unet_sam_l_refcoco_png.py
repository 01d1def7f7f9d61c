"""Qwen3.5-4B: 8 of its 32 layers attend x 16 heads, one view at the picture's own proportions."""

from mmengine.config import read_base

with read_base():
    from .frozen_qwen3_vl_4b_instruct_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="Qwen/Qwen3.5-4B")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
