"""PaliGemma-3B at 448 pixels (Gemma): 18 layers x 8 heads, one view of 32 x 32."""

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

lmm_name = "google/paligemma-3b-mix-448"
image_token = "<image>"
prompt = image_token + "describe en"  # it knows a few such prefixes, and no free instructions
prompt_template = dict(INSTRUCTION="{input}\n")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=lmm_name)
tokenizer.update(add_bos_token=False)  # the processor writes it, after the picture
image_processor = dict(
    type=HFImageProcessor.from_pretrained,
    pretrained_model_name_or_path=lmm_name,
    image_token=image_token,
    trim=1,  # the processor's newline; the template has one
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

lmm = dict(type=load_image_text_model, pretrained_model_name_or_path=lmm_name, dtype=torch.bfloat16)
model.update(type=FrozenHFSAM, model=lmm, grid=dict(type=SquareGrid, side=32), prefix_lm=True)
model.mask_head.update(in_channels=18 * 8)
