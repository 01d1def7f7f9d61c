"""All that the configs share: data, head, schedule, runtime."""

from mmengine.config import read_base

with read_base():
    from .datasets import *
    from .models import *
    from .runtime import *
    from .schedules import *
