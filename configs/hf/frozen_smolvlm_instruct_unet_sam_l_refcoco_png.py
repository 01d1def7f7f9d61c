"""SmolVLM-2.2B (Idefics3): 24 layers x 32 heads, one view of 9 x 9 (the whole picture, after its tiles)."""

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

lmm_name = "HuggingFaceTB/SmolVLM-Instruct"
image_token = "<image>"
prompt = image_token + "Please give me a description of the image."
prompt_template = dict(INSTRUCTION="<|im_start|>User:{input}<end_of_utterance>\nAssistant:")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=lmm_name)
image_processor = dict(
    type=HFImageProcessor.from_pretrained,
    pretrained_model_name_or_path=lmm_name,
    image_token=image_token,
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
train_dataloader.dataset.datasets_list[0].update(reader)
[refs.pipeline[-1].update(reader) for refs in train_dataloader.dataset.datasets_list[1:]]

lmm = dict(type=load_image_text_model, pretrained_model_name_or_path=lmm_name, torch_dtype=torch.bfloat16)
model.update(type=FrozenHFSAM, model=lmm, grid=dict(type=SquareGrid, side=9, at="last"))
model.mask_head.update(in_channels=24 * 32)
