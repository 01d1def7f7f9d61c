"""The embedded LLaVA (4 layers x 8 heads, one view of 12 x 12) with SAM vit_nano on the shapes data, for CPUs."""

import torch
from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from transformers import AutoTokenizer

from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.models.frozen_llava import FrozenLlavaSAM
from llava import CustomLlavaForConditionalGeneration

with read_base():
    from .._base_.recipe import *

lmm = dict(pretrained_model_name_or_path="checkpoints/tiny_llava")
train_dataloader.dataset.shared.sample_builder.update(
    tokenizer=dict(lmm, type=AutoTokenizer.from_pretrained),
    image_processor=dict(lmm, type=CustomLlavaImageProcessor.from_pretrained),
    prompt="<image>\n" + instruction,
    prompt_template=dict(INSTRUCTION="USER: {input} ASSISTANT:", SEP="\n", SEVERAL_PICTURES=True),
)
png, *expressions = train_dataloader.dataset.datasets_list
png.update({key: path.replace("coco", "shapes", 1) for key, path in png.items() if "coco" in str(path)})
[data.update(data_root="data/shapes/") for data in expressions]

model.update(
    type=FrozenLlavaSAM,
    model=dict(lmm, type=CustomLlavaForConditionalGeneration.from_pretrained, dtype=torch.float32),
)
model.mask_head.update(base_channels=32)
model.keywords = {}  # with a keyword selector, as it is by default
model.sam.update(model_name="vit_nano", checkpoint="checkpoints/sam_vit_nano.pth")

train_cfg.update(max_epochs=None, max_iters=4000)
param_scheduler[0].update(by_epoch=False, convert_to_iter_based=False, end=48)
param_scheduler[1].update(by_epoch=False, convert_to_iter_based=False, begin=48, end=4000)
optim_wrapper.optimizer.update(lr=1e-3)
optim_wrapper = dict(type=OptimWrapper, optimizer=optim_wrapper.optimizer, clip_grad=optim_wrapper.clip_grad)
default_hooks.checkpoint.update(interval=1000)
