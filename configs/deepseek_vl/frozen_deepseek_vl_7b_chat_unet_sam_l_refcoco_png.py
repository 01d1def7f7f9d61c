"""DeepSeek-VL-7B: 30 layers x 32 heads, one view of 24 x 24, seen by SigLIP-L at 384 pixels and SAM-B at 1024."""

from mmengine.config import read_base

with read_base():
    from .frozen_deepseek_vl_1_3b_chat_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="deepseek-ai/deepseek-vl-7b-chat")
builder = train_dataloader.dataset.shared.sample_builder
[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model, model.tokenizer)]
