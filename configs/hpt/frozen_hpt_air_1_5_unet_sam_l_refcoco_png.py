"""HPT Air 1.5: Llama-3-8B (32 layers x 32 heads) and SigLIP-so400m, one view of 32 x 32."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.hpt_processors import CustomHPT15ImageProcessor
from flmm.models.frozen_hpt import FrozenHPTSAM
from hpt import LanguageModel, ProjectorModel, SiglipVisionModel

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="HyperGAI/HPT1_5-Air-Llama-3-8B-Instruct-multimodal")
weights = dict(lmm, dtype=torch.bfloat16)
image_size = 448  # 384 in training of the tower; its position embedding is re-interpolated
train_dataloader.dataset.shared.sample_builder.update(
    tokenizer=dict(lmm, type=AutoTokenizer.from_pretrained, subfolder="llm"),
    image_processor=dict(
        lmm,
        type=CustomHPT15ImageProcessor.from_pretrained,
        subfolder="visual_encoder",
        size=dict(height=image_size, width=image_size),
    ),
    add_image_token=True,
    prompt="<image>\n" + instruction,
    prompt_template=PROMPT_TEMPLATE.llama3_chat,
)
model.update(
    type=FrozenHPTSAM,
    llm=dict(weights, type=LanguageModel.from_pretrained, subfolder="llm"),
    visual_encoder=dict(weights, type=SiglipVisionModel.from_pretrained, subfolder="visual_encoder"),
    # the projector is code in the repository; read it first
    projector=dict(weights, type=ProjectorModel.from_pretrained, subfolder="projector", trust_remote_code=True),
    image_size=image_size,
)
