"""LLaVA-NeXT Vicuna 7B: 2 views (24 x 24 and un-padded tiles) x 32 layers x 32 heads."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.llava_next_processors import CustomLlavaNextImageProcessor
from flmm.models.frozen_llava_next import FrozenLlavaNextSAM
from llava import CustomLlavaNextForConditionalGeneration

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="llava-hf/llava-v1.6-vicuna-7b-hf")
train_dataloader.dataset.shared.sample_builder.update(
    # without `legacy`, transformers 5 drops the token before the newline that follows <image>
    tokenizer=dict(lmm, type=AutoTokenizer.from_pretrained, legacy=True),
    image_processor=dict(lmm, type=CustomLlavaNextImageProcessor.from_pretrained),
    prompt="<image>\n" + instruction,
    prompt_template=PROMPT_TEMPLATE.vicuna,
)
model.update(
    type=FrozenLlavaNextSAM,
    model=dict(lmm, type=CustomLlavaNextForConditionalGeneration.from_pretrained, dtype=torch.bfloat16),
)
