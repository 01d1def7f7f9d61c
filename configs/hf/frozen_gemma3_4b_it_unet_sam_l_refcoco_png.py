"""Gemma 3 4B: 34 layers x 8 heads, one view of 16 x 16."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from flmm.datasets.hf_processors import HFImageProcessor
from flmm.models.frozen_hf import FrozenHFSAM, load_image_text_model
from flmm.models.grids import SquareGrid

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

lmm_name = "google/gemma-3-4b-it"
image_token = "<start_of_image>"
prompt = image_token + "Please give me a description of the image."
prompt_template = dict(INSTRUCTION="<start_of_turn>user\n{input}<end_of_turn>\n<start_of_turn>model\n")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=lmm_name)
image_processor = dict(
    type=HFImageProcessor.from_pretrained,
    pretrained_model_name_or_path=lmm_name,
    image_token=image_token,
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

lmm = dict(type=load_image_text_model, pretrained_model_name_or_path=lmm_name, dtype=torch.bfloat16)
model.update(type=FrozenHFSAM, model=lmm, grid=dict(type=SquareGrid, side=16))
model.mask_head.update(in_channels=34 * 8)
