"""The embedded model goes on from its trained head with your data (docs/own_data.md)."""

from mmengine.config import read_base

from flmm.datasets.own import OwnDataset

with read_base():
    from ..tiny.frozen_tiny_llava_unet_sam_nano_shapes import *

train_dataloader.dataset.datasets_list = [dict(type=OwnDataset, file="data/own/train.jsonl")]
model.pretrained = "checkpoints/frozen_tiny_llava_unet_sam_nano_shapes.pth"
train_cfg.update(max_iters=60)
param_scheduler[0].update(end=6)
param_scheduler[1].update(begin=6, end=60)
default_hooks.checkpoint.update(interval=60)
