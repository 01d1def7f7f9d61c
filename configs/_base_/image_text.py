"""The recipe for an image-text model of transformers; a leaf adds its name, its image token, its words and its grid."""

import torch
from mmengine.config import read_base
from transformers import AutoTokenizer

from flmm.datasets.hf_processors import HFImageProcessor
from flmm.models.frozen_hf import FrozenHFSAM, load_image_text_model

with read_base():
    from .recipe import *

train_dataloader.dataset.shared.sample_builder.update(
    tokenizer=dict(type=AutoTokenizer.from_pretrained),
    image_processor=dict(type=HFImageProcessor.from_pretrained),
)
model.update(type=FrozenHFSAM, model=dict(type=load_image_text_model, dtype=torch.bfloat16))
