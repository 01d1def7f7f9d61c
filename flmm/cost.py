"""What a reply cost: time and memory."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Cost:
    """What a reply cost.

    Attributes:
        seconds: Time.
        megabytes: Peak memory: of the GPU while it was used, or of the process so far.
    """

    seconds: float = 0.0
    megabytes: float = 0.0

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, peak memory {self.megabytes:,.0f} MB"


@contextlib.contextmanager
def measured() -> Iterator[Cost]:
    """Measure what happens inside."""
    import torch

    cost, start = Cost(), time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    yield cost
    cost.seconds = time.perf_counter() - start
    if torch.cuda.is_available():
        cost.megabytes = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cost.megabytes = peak / (2**20 if sys.platform == "darwin" else 2**10)
