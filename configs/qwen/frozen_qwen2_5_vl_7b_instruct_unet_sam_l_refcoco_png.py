"""Qwen2.5-VL-7B: as 3B, with 28 layers x 28 heads."""

from mmengine.config import read_base

with read_base():
    from .frozen_qwen2_5_vl_3b_instruct_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="Qwen/Qwen2.5-VL-7B-Instruct")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model, model.tokenizer)]
