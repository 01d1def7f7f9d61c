"""MGM-7B (Vicuna): 32 layers x 32 heads, one view of 24 x 24."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.pad2square_processor import Pad2Square
from flmm.models.frozen_mgm import FrozenMGMSAM
from mgm.model import MGMLlamaForCausalLM

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="YanweiLi/MGM-7B")
train_dataloader.dataset.shared.sample_builder.update(
    # the repository says legacy=False, by which newer transformers drop the token before <image>'s newline
    tokenizer=dict(lmm, type=AutoTokenizer.from_pretrained, legacy=True),
    image_processor=dict(type=Pad2Square),
    image2tensor=False,  # the model's own towers resize and normalize
    add_image_token=True,
    prompt="<image>\n" + instruction,
    prompt_template=PROMPT_TEMPLATE.vicuna,
)
model.update(
    type=FrozenMGMSAM,
    model=dict(
        lmm,
        type=MGMLlamaForCausalLM.from_pretrained,
        mm_vision_tower="openai/clip-vit-large-patch14-336",
        mm_vision_tower_aux="laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
        dtype=torch.bfloat16,
    ),
)
