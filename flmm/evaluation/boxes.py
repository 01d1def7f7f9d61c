"""The box metric: mask -> tight box -> IoU of boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flmm.evaluation.masks import to_list


def box_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """IoU [M] of M pairs of boxes [M, 4]; 0 where a box is empty."""
    corners = torch.minimum(boxes[:, 2:], targets[:, 2:]) - torch.maximum(boxes[:, :2], targets[:, :2])
    intersection = corners.clamp(min=0).double().prod(1)
    area, target_area = ((b[:, 2:] - b[:, :2]).double().prod(1) for b in (boxes, targets))
    return intersection / (area + target_area - intersection).clamp(min=1)


@dataclass
class BoxMetric:
    """Mean box IoU and the share of boxes with IoU > 0.5, in percent."""

    _ious: list[float] = field(default_factory=list)

    def update(self, ious: Tensor | Sequence[float]) -> None:
        """Add the IoU, 0..1, of M pairs of boxes."""
        self._ious += to_list(ious)

    def merge(self, other: "BoxMetric") -> None:
        """Add the boxes that another accumulator has seen."""
        self._ious += other._ious

    def compute(self) -> dict[str, float | None]:
        """`box_mIoU` and `box_acc50` in percent, None when there is no box."""
        if not self._ious:
            return {"box_mIoU": None, "box_acc50": None}
        share = 100.0 / len(self._ious)
        return {
            "box_mIoU": share * math.fsum(self._ious),
            "box_acc50": share * sum(iou > 0.5 for iou in self._ious),
        }
