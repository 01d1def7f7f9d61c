"""LLaVA-OneVision-7B: 28 layers x 28 heads, one view of 27 x 27 (the whole picture, before its tiles)."""

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

lmm_name = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
image_token = "<image>"
prompt = image_token + "\nPlease give me a description of the image."
prompt_template = dict(INSTRUCTION="<|im_start|>user {input}<|im_end|><|im_start|>assistant\n")
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
model.update(type=FrozenHFSAM, model=lmm, grid=dict(type=SquareGrid, side=27, at="first"))
model.mask_head.update(in_channels=28 * 28)
