"""Number format and device of a training."""

from __future__ import annotations

from pathlib import Path

import torch


def set_up(device: str, threads: int, seed: int) -> torch.device:
    """Seed everything, and let matrices be multiplied fast: TF32 on a GPU, no denormal numbers on a CPU."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # without, the first steps run fifteen times slower
    torch.set_float32_matmul_precision("high")
    return torch.device(device)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it (AVX512-BF16, AMX), float32 where it would only imitate that.

    On a GPU float32: a step of such small models takes the time to start its kernels.
    """
    if device.type != "cpu":
        return torch.float32
    file = Path("/proc/cpuinfo")
    flags = set(file.read_text().split()) if file.is_file() else set()
    return torch.bfloat16 if flags & {"amx_bf16", "avx512_bf16"} else torch.float32


def autocast(dtype: torch.dtype) -> torch.autocast:
    """Autocast on the CPU; none for float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
