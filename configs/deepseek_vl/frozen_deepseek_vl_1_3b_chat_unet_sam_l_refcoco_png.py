"""DeepSeek-VL-1.3B: 24 layers x 16 heads, one view of 24 x 24, seen by SigLIP-L at 384 pixels."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from deepseek_vl.models import MultiModalityCausalLM, VLMImageProcessor
from flmm.models.frozen_deepseek_vl import FrozenDeepseekVLSAM

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="deepseek-ai/deepseek-vl-1.3b-chat")
tokenizer = dict(lmm, type=AutoTokenizer.from_pretrained)
train_dataloader.dataset.shared.sample_builder.update(
    tokenizer=tokenizer,
    image_processor=dict(lmm, type=VLMImageProcessor.from_pretrained),
    image_token="<image_placeholder>",
    prompt="<image_placeholder>" * 576 + instruction,
    prompt_template=dict(
        INSTRUCTION="User: {input}\n\nAssistant:",
        SYSTEM="{system}\n\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(
    type=FrozenDeepseekVLSAM,
    model=dict(lmm, type=MultiModalityCausalLM.from_pretrained, dtype=torch.bfloat16),
    tokenizer=tokenizer,
)
