"""LLaVA-NeXT Vicuna 7B: 2 views (24 x 24 and un-padded tiles) x 32 layers x 32 heads."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.llava_next_processors import CustomLlavaNextImageProcessor
from flmm.models.frozen_llava_next import FrozenLlavaNextSAM
from llava import CustomLlavaNextForConditionalGeneration

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

llava_name = "llava-hf/llava-v1.6-vicuna-7b-hf"
prompt = "<image>\nPlease give me a description of the image."
prompt_template = PROMPT_TEMPLATE.vicuna
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=llava_name)
image_processor = dict(
    type=CustomLlavaNextImageProcessor.from_pretrained,
    pretrained_model_name_or_path=llava_name,
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

llava = dict(
    type=CustomLlavaNextForConditionalGeneration.from_pretrained,
    pretrained_model_name_or_path=llava_name,
    dtype=torch.bfloat16,
    low_cpu_mem_usage=True,
)
model.update(type=FrozenLlavaNextSAM, model=llava)
model.mask_head.update(in_channels=2 * 32 * 32)
