"""DeepSeek-VL-1.3B: 24 layers x 16 heads, one view of 24 x 24, seen by SigLIP-L at 384 pixels."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from deepseek_vl.models import MultiModalityCausalLM, VLMImageProcessor
from flmm.models.frozen_deepseek_vl import FrozenDeepseekVLSAM

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

deepseek_name = "deepseek-ai/deepseek-vl-1.3b-chat"
image_token = "<image_placeholder>"
prompt = image_token * 576 + "Please give me a description of the image."
prompt_template = dict(INSTRUCTION="User: {input}\n\nAssistant:")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=deepseek_name)
image_processor = dict(type=VLMImageProcessor.from_pretrained, pretrained_model_name_or_path=deepseek_name)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

deepseek = dict(
    type=MultiModalityCausalLM.from_pretrained,
    pretrained_model_name_or_path=deepseek_name,
    dtype=torch.bfloat16,
)
model.update(type=FrozenDeepseekVLSAM, model=deepseek, tokenizer=tokenizer)
model.mask_head.update(in_channels=24 * 16)
