# ruff: noqa: C408, F403, F405
"""Eight pictures of the shapes data with equally many expressions, for the embedded LMM; run where data/shapes lies."""

from mmengine.config import read_base
from toy import captions_alike

with read_base():
    from ...configs.tiny.frozen_tiny_llava_unet_sam_nano_shapes import *

train_dataloader.num_workers = 0
expressions = dict(train_dataloader.dataset.datasets_list[1], **train_dataloader.dataset.shared)
train_dataloader.dataset = dict(type=captions_alike, dataset=expressions)
train_cfg.update(max_iters=3)
param_scheduler[0].update(end=2)
param_scheduler[1].update(begin=2, end=4)
load_from = "checkpoints/frozen_tiny_llava_unet_sam_nano_shapes.pth"
default_hooks.logger.update(interval=1)
