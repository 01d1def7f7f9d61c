"""DeepSeek-VL-7B: 30 layers x 32 heads, one view of 24 x 24, seen by SigLIP-L at 384 pixels and SAM-B at 1024."""

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

deepseek_name = "deepseek-ai/deepseek-vl-7b-chat"
image_token = "<image_placeholder>"
prompt = image_token * 576 + "Please give me a description of the image."
prompt_template = dict(INSTRUCTION="User: {input}\n\nAssistant:")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=deepseek_name)
image_processor = dict(type=VLMImageProcessor.from_pretrained, pretrained_model_name_or_path=deepseek_name)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
train_dataloader.dataset.datasets_list[0].update(reader)
[refs.pipeline[-1].update(reader) for refs in train_dataloader.dataset.datasets_list[1:]]

deepseek = dict(
    type=MultiModalityCausalLM.from_pretrained,
    pretrained_model_name_or_path=deepseek_name,
    torch_dtype=torch.bfloat16,
)
model.update(type=FrozenDeepseekVLSAM, model=deepseek, tokenizer=tokenizer)
model.mask_head.update(in_channels=30 * 32)
