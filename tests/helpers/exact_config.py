# ruff: noqa: C408, F403, F405
"""The toy in float32 without dropout: runs of one and of two processes must agree."""

from mmengine.config import read_base
from mmengine.optim import OptimWrapper

with read_base():
    from .toy_config import *

model.update(dropout=0)
optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(optim_wrapper.optimizer, lr=0.01), clip_grad=optim_wrapper.clip_grad
)
param_scheduler[0].update(end=0.5)
param_scheduler[1].update(begin=0.5, end=2)
