"""LLaVA-1.5-7B: 32 layers x 32 heads, one view of 24 x 24."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.models.frozen_llava import FrozenLlavaSAM
from llava import CustomLlavaForConditionalGeneration

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="llava-hf/llava-1.5-7b-hf")
clip = dict(pretrained_model_name_or_path="openai/clip-vit-large-patch14-336")
train_dataloader.dataset.shared.sample_builder.update(
    # without `legacy`, transformers 5 drops the token before the newline that follows <image>
    tokenizer=dict(lmm, type=AutoTokenizer.from_pretrained, legacy=True),
    image_processor=dict(clip, type=CustomLlavaImageProcessor.from_pretrained),
    prompt="<image>\n" + instruction,
    prompt_template=PROMPT_TEMPLATE.vicuna,
)
model.update(
    type=FrozenLlavaSAM,
    model=dict(lmm, type=CustomLlavaForConditionalGeneration.from_pretrained, dtype=torch.bfloat16),
)
