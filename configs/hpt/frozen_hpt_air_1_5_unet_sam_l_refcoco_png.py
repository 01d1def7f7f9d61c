"""HPT Air 1.5: Llama-3-8B (32 layers x 32 heads) and SigLIP-so400m, one view of 32 x 32."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.hpt_processors import CustomHPT15ImageProcessor
from flmm.models.frozen_hpt import FrozenHPTSAM
from hpt import LanguageModel, ProjectorModel, SiglipVisionModel

with read_base():
    from .._base_.datasets import *
    from .._base_.models import *
    from .._base_.runtime import *
    from .._base_.schedules import *

hpt_name = "HyperGAI/HPT1_5-Air-Llama-3-8B-Instruct-multimodal"
image_size = 448  # 384 in training of the tower; its position embedding is re-interpolated
prompt = "<image>\nPlease give me a description of the image."
prompt_template = PROMPT_TEMPLATE.llama3_chat
add_image_token = True
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=hpt_name, subfolder="llm")
image_processor = dict(
    type=CustomHPT15ImageProcessor.from_pretrained,
    pretrained_model_name_or_path=hpt_name,
    subfolder="visual_encoder",
    size=dict(height=image_size, width=image_size),
)
reader = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, add_image_token=True)
reader["prompt_template"] = prompt_template
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

weights = dict(pretrained_model_name_or_path=hpt_name, dtype=torch.bfloat16)
model.update(
    type=FrozenHPTSAM,
    llm=dict(weights, type=LanguageModel.from_pretrained, subfolder="llm", low_cpu_mem_usage=True),
    visual_encoder=dict(weights, type=SiglipVisionModel.from_pretrained, subfolder="visual_encoder"),
    projector=dict(weights, type=ProjectorModel.from_pretrained, subfolder="projector"),
    image_size=image_size,
)
model.mask_head.update(in_channels=32 * 32)
