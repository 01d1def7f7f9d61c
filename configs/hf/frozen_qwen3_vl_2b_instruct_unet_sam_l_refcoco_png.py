"""Qwen3-VL-2B: 28 layers x 16 heads, one view at the picture's own proportions (a token per 32 x 32 pixels)."""

from mmengine.config import read_base

with read_base():
    from .frozen_qwen3_vl_4b_instruct_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="Qwen/Qwen3-VL-2B-Instruct")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
