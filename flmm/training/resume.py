"""Continue a run at the same sample with the same random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader, Sampler


class ResumedIterator(_InfiniteDataloaderIterator):
    """An endless iterator that starts where a run stopped, without loading the samples it has seen.

    MMEngine advances by calling `next` once per iteration done; these calls return None at no cost. The last
    of them puts the sampler in its place and the random states back; so late because a hook sets the
    sampler's epoch before.

    Args:
        dataloader: The loader of the run.
        done: Batches this process has trained on, more than 0.
        rng: Its :func:`random_state` at that moment.
    """

    def __init__(self, dataloader: DataLoader, done: int, rng: dict[str, Any]) -> None:
        self._dataloader, self._done, self._rng = dataloader, done, rng
        self._to_skip = done
        self._epoch = (done - 1) // len(dataloader)

    def __next__(self) -> Any:
        if self._to_skip == 0:
            return super().__next__()
        self._to_skip -= 1
        if self._to_skip == 0:
            self._start()
        return None

    def _start(self) -> None:
        loader = self._dataloader
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(self._epoch)
        batches = self._done - self._epoch * len(loader)
        order: Any = loader.batch_sampler
        order.sampler = _StartAt(order.sampler, batches * order.batch_size)
        self._iterator = iter(loader)
        set_random_state(self._rng)


class _StartAt:
    """A sampler that leaves out its first indices, the first time."""

    def __init__(self, sampler: Sampler, start: int) -> None:
        self._sampler, self._start = sampler, start

    def __iter__(self) -> Iterator[int]:
        start, self._start = self._start, 0
        return islice(iter(self._sampler), start, None)

    def __len__(self) -> int:
        return len(self._sampler)  # type: ignore[arg-type]


def random_state() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's generators in this process, as plain values and CPU tensors."""
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` took."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
