"""Two small helpers whose names and results are public API."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor


def compute_mask_IoU(masks: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: N802
    """Intersection, union and IoU of masks that are flattened in their last dimension.

    Args:
        masks: [..., n] in {0, 1}.
        target: [..., n] in {0, 1}, same dtype.

    Returns:
        Three tensors [...], in pixels, pixels and 0..1. An empty union has IoU 0.
    """
    overlap = masks * target
    intersection = overlap.sum(dim=-1)
    union = (masks + target - overlap).sum(dim=-1)
    return intersection, union, intersection / (union + 1e-12)


def multi_apply(func: Callable[..., tuple], *args: Iterable, **kwargs: Any) -> tuple[list, ...]:
    """Calls `func` on each tuple of arguments and regroups the results: one list per value it returns."""
    results = map(partial(func, **kwargs), *args)
    return tuple(map(list, zip(*results, strict=True)))
