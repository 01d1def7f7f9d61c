"""Qwen2.5-VL-3B: 36 layers x 16 heads, one view at the picture's own resolution (a token per 28 x 28 pixels)."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from flmm.datasets.qwen_processors import CustomQwenImageProcessor
from flmm.models.frozen_qwen import CustomQwenForConditionalGeneration, FrozenQwenSAM

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="Qwen/Qwen2.5-VL-3B-Instruct")
tokenizer = dict(lmm, type=AutoTokenizer.from_pretrained)
pixels = dict(min_pixels=256 * 28 * 28, max_pixels=1280 * 28 * 28)  # 256 to 1280 image tokens
train_dataloader.dataset.shared.sample_builder.update(
    tokenizer=tokenizer,
    image_processor=dict(lmm, type=CustomQwenImageProcessor.from_pretrained, **pixels),
    image_token="<|image_pad|>",
    prompt="<|vision_start|><|image_pad|><|vision_end|>" + instruction,
    prompt_template=dict(  # what the chat template of the repository makes of a first question
        INSTRUCTION="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        FOLLOW_UP="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        SYSTEM="<|im_start|>system\n{system}<|im_end|>\n",
        SUFFIX="<|im_end|>",
        SEP="\n",
        SEVERAL_PICTURES=True,
    ),
)
model.update(
    type=FrozenQwenSAM,
    model=dict(lmm, type=CustomQwenForConditionalGeneration.from_pretrained, dtype=torch.bfloat16),
    tokenizer=tokenizer,
)
