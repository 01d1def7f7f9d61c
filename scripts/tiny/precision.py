"""The number format of a training, by what the processor does well."""

from __future__ import annotations

from pathlib import Path

import torch


def fast_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it (AVX512-BF16, AMX), float32 where it would only imitate that."""
    file = Path("/proc/cpuinfo")
    flags = set(file.read_text().split()) if file.is_file() else set()
    return torch.bfloat16 if flags & {"amx_bf16", "avx512_bf16"} else torch.float32


def autocast(dtype: torch.dtype) -> torch.autocast:
    """Autocast on the CPU; none for float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
