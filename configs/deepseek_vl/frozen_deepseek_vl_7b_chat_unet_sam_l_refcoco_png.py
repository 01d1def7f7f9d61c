"""DeepSeek-VL-7B: 30 layers x 32 heads, one view of 24 x 24, seen by SigLIP-L at 384 pixels and SAM-B at 1024."""

from mmengine.config import read_base

with read_base():
    from .frozen_deepseek_vl_1_3b_chat_unet_sam_l_refcoco_png import *

deepseek_name = "deepseek-ai/deepseek-vl-7b-chat"
[part.update(pretrained_model_name_or_path=deepseek_name) for part in (tokenizer, image_processor, deepseek)]
reader.update(tokenizer=tokenizer, image_processor=image_processor)
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

model.update(model=deepseek, tokenizer=tokenizer)
