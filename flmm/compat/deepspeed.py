"""DeepSpeed where its processes talk through gloo."""

from __future__ import annotations

import os
from types import ModuleType

from flmm.compat.hooks import Patch


def without_gpu(module: ModuleType) -> None:
    """Say to deepspeed 0.18.9 that there is no GPU, where there is none: it warns when it has to find out.

    DS_ACCELERATOR is the official means; who starts deepspeed need not know of it.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def no_compiler(module: ModuleType) -> None:
    """Leave out DeepSpeed's shared-memory all-reduce for CPUs.

    deepspeed 0.18.9 compiles it when a CPU run starts: two minutes on two cores, and a crash without a C++
    compiler. gloo's all-reduce is what it uses without. No official means: DS_BUILD_* count at installation only.
    """
    module.build_shm_op = lambda: None  # type: ignore[attr-defined]


def gather_without_gradient(module: ModuleType) -> None:
    """Let ZeRO gather its updated parameters with gloo.

    deepspeed 0.18.9 calls the collective in grad mode on a tensor that requires grad; gloo (torch 2.11) fills it
    through views, and autograd refuses that ("Output 0 of SplitBackward0 is a view"). nccl does not mind.
    No official means: the backend is a class that DeepSpeed itself builds.
    """
    import torch

    backend = module.TorchBackend
    backend.all_gather_into_tensor = torch.no_grad()(backend.all_gather_into_tensor)


PATCHES: list[Patch] = [
    ("deepspeed.accelerator.real_accelerator", without_gpu),
    ("deepspeed.comm.torch", no_compiler),
    ("deepspeed.comm.torch", gather_without_gradient),
]
