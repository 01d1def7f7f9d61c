"""InternVL3-2B: 2 views (16 x 16 of the whole picture, and its 2 to 6 tiles of 16 x 16) x 28 layers x 12 heads."""

from mmengine.config import read_base

with read_base():
    from .frozen_internvl3_8b_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="OpenGVLab/InternVL3-2B-hf")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
