"""MGM-7B-HD (Vicuna): as MGM-7B, with 2 views (24 x 24 and 48 x 48) x 32 layers x 32 heads."""

from mmengine.config import read_base

with read_base():
    from .frozen_mgm_vicuna_7b_unet_sam_l_refcoco_png import *

mgm_name = "YanweiLi/MGM-7B-HD"
[part.update(pretrained_model_name_or_path=mgm_name) for part in (tokenizer, mgm, model.model)]
reader.update(tokenizer=tokenizer)
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]
