"""Qwen2.5-VL-7B: as 3B, with 28 layers x 28 heads."""

from mmengine.config import read_base

with read_base():
    from .frozen_qwen2_5_vl_3b_instruct_unet_sam_l_refcoco_png import *

qwen_name = "Qwen/Qwen2.5-VL-7B-Instruct"
[part.update(pretrained_model_name_or_path=qwen_name) for part in (tokenizer, image_processor, qwen)]
reader.update(tokenizer=tokenizer, image_processor=image_processor)
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

model.update(model=qwen, tokenizer=tokenizer)
