"""LLaVA-1.5-7B: 32 layers x 32 heads, one view of 24 x 24."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.models.frozen_llava import FrozenLlavaSAM
from llava import CustomLlavaForConditionalGeneration

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

llava_name = "llava-hf/llava-1.5-7b-hf"
prompt = "<image>\nPlease give me a description of the image."
prompt_template = PROMPT_TEMPLATE.vicuna
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=llava_name)
image_processor = dict(
    type=CustomLlavaImageProcessor.from_pretrained,
    pretrained_model_name_or_path="openai/clip-vit-large-patch14-336",
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, prompt_template=prompt_template)
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

llava = dict(
    type=CustomLlavaForConditionalGeneration.from_pretrained,
    pretrained_model_name_or_path=llava_name,
    dtype=torch.bfloat16,
    low_cpu_mem_usage=True,
)
model.update(type=FrozenLlavaSAM, model=llava)
model.mask_head.update(in_channels=32 * 32)
