"""InternVL3-8B: 2 views (16 x 16 of the whole picture, and its 2 to 6 tiles of 16 x 16) x 28 layers x 28 heads."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from flmm.datasets.hf_processors import HFImageProcessor, canvas_layout
from flmm.models.frozen_hf import FrozenHFSAM, load_image_text_model
from flmm.models.grids import TileGrid

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

lmm_name = "OpenGVLab/InternVL3-8B-hf"
image_token = "<IMG_CONTEXT>"
prompt = image_token + "\nPlease give me a description of the image."
prompt_template = dict(INSTRUCTION="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n")
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=lmm_name)
image_processor = dict(
    type=HFImageProcessor.from_pretrained,
    pretrained_model_name_or_path=lmm_name,
    image_token=image_token,
    layout=canvas_layout,
    call=dict(crop_to_patches=True, min_patches=2, max_patches=6),  # one tile alone would leave no view of tiles
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, image_token=image_token)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

lmm = dict(type=load_image_text_model, pretrained_model_name_or_path=lmm_name, dtype=torch.bfloat16)
model.update(type=FrozenHFSAM, model=lmm, grid=dict(type=TileGrid, side=16))
model.mask_head.update(in_channels=2 * 28 * 28)
