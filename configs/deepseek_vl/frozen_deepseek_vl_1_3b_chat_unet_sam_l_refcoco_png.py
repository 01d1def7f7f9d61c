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

# The reference's words for visual chain of thought: no space behind the question, and DeepSeek-VL's system text.
visual_cot = dict(
    think="{question}First think which object in this image is most relevant to the question.",
    system="You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language.",
)
