"""SmolVLM-2.2B (Idefics3): 2 views (9 x 9 of the whole picture, and its tiles of 9 x 9) x 24 layers x 32 heads."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from flmm.datasets.hf_processors import HFImageProcessor, split_layout
from flmm.models.frozen_hf import FrozenHFSAM, load_image_text_model
from flmm.models.grids import TileGrid

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

lmm_name = "HuggingFaceTB/SmolVLM-Instruct"
image_token = "<image>"
prompt = image_token + "Please give me a description of the image."
prompt_template = dict(INSTRUCTION="<|im_start|>User:{input}<end_of_utterance>\nAssistant:")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=lmm_name)
image_processor = dict(
    type=HFImageProcessor.from_pretrained,
    pretrained_model_name_or_path=lmm_name,
    image_token=image_token,
    layout=split_layout,
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

lmm = dict(type=load_image_text_model, pretrained_model_name_or_path=lmm_name, dtype=torch.bfloat16)
model.update(type=FrozenHFSAM, model=lmm, grid=dict(type=TileGrid, side=9))
model.mask_head.update(in_channels=2 * 24 * 32)
