"""The box metric: mask -> tight box -> IoU of boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flmm.evaluation.masks import to_list


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Tight boxes of boolean masks.

    Args:
        masks: [M, H, W].

    Returns:
        [M, 4] float x0, y0, x1, y1 in pixels, x1 and y1 one past the last pixel; zeros for an empty mask.
    """
    (x0, x1), (y0, y1) = _ends(masks.any(1)), _ends(masks.any(2))
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _ends(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First True and one past the last one of [M, N], each [M]; zeros where there is none."""
    first, size = occupied.int().argmax(1), occupied.shape[1]
    return first, (size - occupied.flip(1).int().argmax(1)) * occupied.any(1)


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
        """Adds the IoU, 0..1, of M pairs of boxes."""
        self._ious += to_list(ious)

    def merge(self, other: "BoxMetric") -> None:
        """Adds the boxes that another accumulator has seen."""
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
