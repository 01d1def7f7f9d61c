"""MGM-7B-HD (Vicuna): as MGM-7B, with 2 views (24 x 24 and 48 x 48) x 32 layers x 32 heads."""

from mmengine.config import read_base

with read_base():
    from .frozen_mgm_vicuna_7b_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="YanweiLi/MGM-7B-HD")
[part.update(lmm) for part in (train_dataloader.dataset.shared.sample_builder.tokenizer, model.model)]
