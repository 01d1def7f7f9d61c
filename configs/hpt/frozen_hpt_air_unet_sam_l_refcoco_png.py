"""HPT Air: Yi-6B-Chat (a Llama, 32 layers x 32 heads) and CLIP-L, one view of 28 x 28."""

import torch
from mmengine.config import read_base
from transformers import PreTrainedTokenizerFast
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.hpt_processors import CustomHPTImageProcessor
from flmm.models.frozen_hpt import FrozenHPTSAM
from hpt import CLIPVisionModel, LanguageModel, ProjectorModel

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="HyperGAI/HPT")
weights = dict(lmm, dtype=torch.bfloat16)
image_size = 392  # 336 in training of the tower; its position embedding is re-interpolated
train_dataloader.dataset.shared.sample_builder.update(
    # Yi's tokenizer.json as it is: the Llama class of transformers 5 puts a space before every text
    tokenizer=dict(lmm, type=PreTrainedTokenizerFast.from_pretrained, subfolder="llm"),
    image_processor=dict(
        lmm,
        type=CustomHPTImageProcessor.from_pretrained,
        subfolder="visual_encoder",
        size=dict(shortest_edge=image_size),
        crop_size=dict(height=image_size, width=image_size),
    ),
    add_image_token=True,
    prompt="<image>\n" + instruction,
    prompt_template=PROMPT_TEMPLATE.internlm2_chat,
)
model.update(
    type=FrozenHPTSAM,
    llm=dict(weights, type=LanguageModel.from_pretrained, subfolder="llm"),
    visual_encoder=dict(weights, type=CLIPVisionModel.from_pretrained, subfolder="visual_encoder"),
    # the projector is code in the repository; read it first
    projector=dict(weights, type=ProjectorModel.from_pretrained, subfolder="projector", trust_remote_code=True),
    image_size=image_size,
)
