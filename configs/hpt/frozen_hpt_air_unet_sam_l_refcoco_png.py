"""HPT Air: Yi-6B-Chat (a Llama, 32 layers x 32 heads) and CLIP-L, one view of 28 x 28."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.hpt_processors import CustomHPTImageProcessor
from flmm.models.frozen_hpt import FrozenHPTSAM
from hpt import CLIPVisionModel, LanguageModel, ProjectorModel

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

hpt_name = "HyperGAI/HPT"
image_size = 392  # 336 in training of the tower; its position embedding is re-interpolated
prompt = "<image>\nPlease give me a description of the image."
prompt_template = PROMPT_TEMPLATE.internlm2_chat
add_image_token = True
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=hpt_name, subfolder="llm")
image_processor = dict(
    type=CustomHPTImageProcessor.from_pretrained,
    pretrained_model_name_or_path=hpt_name,
    subfolder="visual_encoder",
    size=dict(shortest_edge=image_size),
    crop_size=dict(height=image_size, width=image_size),
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, add_image_token=True)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

weights = dict(pretrained_model_name_or_path=hpt_name, dtype=torch.bfloat16)
model.update(
    type=FrozenHPTSAM,
    llm=dict(weights, type=LanguageModel.from_pretrained, subfolder="llm", low_cpu_mem_usage=True),
    visual_encoder=dict(weights, type=CLIPVisionModel.from_pretrained, subfolder="visual_encoder"),
    projector=dict(weights, type=ProjectorModel.from_pretrained, subfolder="projector"),
    image_size=image_size,
)
model.mask_head.update(in_channels=32 * 32)
