"""Qwen3-VL-4B: 36 layers x 32 heads, one view at the picture's own proportions (a token per 32 x 32 pixels)."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from flmm.datasets.hf_processors import HFImageProcessor
from flmm.models.frozen_hf import FrozenHFSAM, load_image_text_model
from flmm.models.grids import PatchGrid

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

lmm_name = "Qwen/Qwen3-VL-4B-Instruct"
image_token = "<|image_pad|>"
prompt = "<|vision_start|>" + image_token + "<|vision_end|>Please give me a description of the image."
prompt_template = dict(INSTRUCTION="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=lmm_name)
image_processor = dict(
    type=HFImageProcessor.from_pretrained,
    pretrained_model_name_or_path=lmm_name,
    image_token=image_token,
    call=dict(size=dict(shortest_edge=256 * 32 * 32, longest_edge=1280 * 32 * 32)),
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

lmm = dict(type=load_image_text_model, pretrained_model_name_or_path=lmm_name, dtype=torch.bfloat16)
model.update(type=FrozenHFSAM, model=lmm, grid=dict(type=PatchGrid, merge=2))
model.mask_head.update(in_channels=36 * 32)
