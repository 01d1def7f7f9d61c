"""Training without a GPU, under configs that were written for one."""

from __future__ import annotations

from functools import partial
from types import ModuleType

from flmm.compat.hooks import Patch


def amp_on_cpu(module: ModuleType) -> None:
    """Let AmpOptimWrapper work without a GPU.

    mmengine 0.10.7 asserts CUDA although its autocast supports CPUs. The gradient scaler is switched off there:
    bfloat16 has the range of float32. No official means: configs, the reference's too, name the class itself, and
    its first line asserts.
    """
    import torch

    if torch.cuda.is_available():
        return
    module.is_cuda_available = lambda: True  # type: ignore[attr-defined]
    module.GradScaler = partial(torch.amp.GradScaler, "cpu", enabled=False)  # type: ignore[attr-defined]


def bf16_on_cpu(module: ModuleType) -> None:
    """Answer xtuner 0.2.0, which asks ``torch.cpu.is_bf16_supported()``.

    torch 2.11 has no such function; every CPU supports bfloat16, slowly. No official means: xtuner asks for each of
    its DeepSpeed settings, before anything of ours is built.
    """
    import torch

    if not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda: True  # type: ignore[attr-defined]


PATCHES: list[Patch] = [
    ("mmengine.optim.optimizer.amp_optimizer_wrapper", amp_on_cpu),
    ("xtuner.tools.utils", bf16_on_cpu),
]
