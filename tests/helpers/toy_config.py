# ruff: noqa: C408, F403, F405
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from toy import ToyData, ToyModel, collate

with read_base():
    from ...configs._base_.runtime import *
    from ...configs._base_.schedules import *

model = dict(type=ToyModel)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(type=ToyData),
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=collate),
)
train_cfg.update(max_epochs=2)
default_hooks.checkpoint.update(interval=5)
default_hooks.logger.update(interval=1)
