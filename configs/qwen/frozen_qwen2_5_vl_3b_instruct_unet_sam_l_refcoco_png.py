"""Qwen2.5-VL-3B: 36 layers x 16 heads, one view at the picture's own resolution (a token per 28 x 28 pixels)."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from flmm.datasets.qwen_processors import CustomQwenImageProcessor
from flmm.models.frozen_qwen import CustomQwenForConditionalGeneration, FrozenQwenSAM

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

qwen_name = "Qwen/Qwen2.5-VL-3B-Instruct"
min_pixels, max_pixels = 256 * 28 * 28, 1280 * 28 * 28  # 256 to 1280 image tokens
prompt = "<|vision_start|><|image_pad|><|vision_end|>Please give me a description of the image."
prompt_template = dict(  # what the chat template of the repository makes of a first question
    INSTRUCTION="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n"
)
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=qwen_name)
image_processor = dict(
    type=CustomQwenImageProcessor.from_pretrained,
    pretrained_model_name_or_path=qwen_name,
    min_pixels=min_pixels,
    max_pixels=max_pixels,
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token="<|image_pad|>")
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

qwen = dict(
    type=CustomQwenForConditionalGeneration.from_pretrained,
    pretrained_model_name_or_path=qwen_name,
    dtype=torch.bfloat16,
)
model.update(type=FrozenQwenSAM, model=qwen, tokenizer=tokenizer)
model.mask_head.update(in_channels=36 * 16)
