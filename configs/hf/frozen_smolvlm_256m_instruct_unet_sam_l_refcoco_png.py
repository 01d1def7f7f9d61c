"""SmolVLM-256M: 2 views (8 x 8 of the whole picture, and its tiles of 8 x 8) x 30 layers x 9 heads."""

from mmengine.config import read_base

with read_base():
    from .frozen_smolvlm_instruct_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="HuggingFaceTB/SmolVLM-256M-Instruct")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]
model.grid.update(side=8)
