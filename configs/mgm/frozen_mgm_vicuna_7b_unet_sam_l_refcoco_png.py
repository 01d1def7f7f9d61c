"""MGM-7B (Vicuna): 32 layers x 32 heads, one view of 24 x 24."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.pad2square_processor import Pad2Square
from flmm.models.frozen_mgm import FrozenMGMSAM
from mgm.model import MGMLlamaForCausalLM

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

mgm_name = "YanweiLi/MGM-7B"
prompt = "<image>\nPlease give me a description of the image."
prompt_template = PROMPT_TEMPLATE.vicuna
image2tensor = False  # the model's own towers resize and normalise
add_image_token = True
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=mgm_name)
image_processor = dict(type=Pad2Square)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, add_image_token=True)
reader.update(prompt_template=prompt_template, image2tensor=image2tensor)
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

mgm = dict(
    type=MGMLlamaForCausalLM.from_pretrained,
    pretrained_model_name_or_path=mgm_name,
    mm_vision_tower="openai/clip-vit-large-patch14-336",
    mm_vision_tower_aux="laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
    dtype=torch.bfloat16,
    low_cpu_mem_usage=True,
)
model.update(type=FrozenMGMSAM, model=mgm)
model.mask_head.update(in_channels=32 * 32)
