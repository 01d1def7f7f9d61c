"""Referring expression segmentation: cIoU and mIoU, equal to mmdet's RefSegMetric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from flmm.evaluation.masks import to_list

Counts = Tensor | Sequence[int]


@dataclass
class RESMetric:
    """Cumulative and mean IoU of all masks; an empty union counts as IoU 0, as in RefSegMetric."""

    _intersections: list[int] = field(default_factory=list)
    _unions: list[int] = field(default_factory=list)

    def update(self, intersections: Counts, unions: Counts) -> None:
        """Add M masks by their intersection and union with the ground truth, in pixels.

        Raises:
            ValueError: When the two do not have the same length.
        """
        intersections, unions = to_list(intersections), to_list(unions)
        if len(intersections) != len(unions):
            raise ValueError(f"{len(intersections)} intersections for {len(unions)} unions: one each per mask")
        self._intersections += intersections
        self._unions += unions

    def merge(self, other: "RESMetric") -> None:
        """Add the masks that another accumulator has seen."""
        self._intersections += other._intersections
        self._unions += other._unions

    def compute(self) -> dict[str, float | None]:
        """`cIoU` (sum of intersections / sum of unions) and `mIoU` in percent (None if empty), `masks`."""
        pairs = list(zip(self._intersections, self._unions, strict=True))
        if not pairs:
            return {"cIoU": None, "mIoU": None, "masks": 0}
        return {
            "cIoU": 100 * sum(self._intersections) / max(sum(self._unions), 1),
            "mIoU": 100 * math.fsum(i / max(u, 1) for i, u in pairs) / len(pairs),
            "masks": len(pairs),
        }
