"""Reasoning segmentation: gIoU and cIoU with ignored pixels, as LISA computes them (Lai et al., CVPR 2024)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

IGNORED = 255
QUERIES = ("overall", "short", "long")


def count_pixels(prediction: Any, truth: Any) -> tuple[int, int]:
    """Count the pixels of intersection and union outside of what is ignored.

    Args:
        prediction: [H, W] bool.
        truth: [H, W] uint8: 0 background, 1 target, 255 ignored.

    Raises:
        ValueError: When the sizes differ, or the truth holds another value.
    """
    prediction, truth = np.asarray(prediction).astype(bool), np.asarray(truth)
    if prediction.shape != truth.shape or truth.ndim != 2:
        raise ValueError(f"the prediction is {prediction.shape}, the truth {truth.shape}: both must be one [H, W]")
    if strange := sorted(set(np.unique(truth).tolist()) - {0, 1, IGNORED}):
        raise ValueError(f"the truth holds {strange}: use 0 for background, 1 for the target and {IGNORED} for ignored")
    counted, target = truth != IGNORED, truth == 1
    return int((prediction & target).sum()), int(((prediction | target) & counted).sum())


@dataclass
class ReasonSegMetric:
    """gIoU, the mean IoU of pictures (1 where there is nothing and nothing is found), and cIoU over all pixels."""

    _pixels: list[tuple[int, int]] = field(default_factory=list)

    def update(self, intersections: Sequence[int], unions: Sequence[int]) -> None:
        """Add pictures by their intersection and union in pixels.

        Raises:
            ValueError: When the two do not have the same length.
        """
        if len(intersections) != len(unions):
            raise ValueError(f"{len(intersections)} intersections for {len(unions)} unions: one each per picture")
        self._pixels += zip(intersections, unions, strict=True)

    def merge(self, other: "ReasonSegMetric") -> None:
        """Add the pictures that another accumulator has seen."""
        self._pixels += other._pixels

    def compute(self) -> dict[str, float | None]:
        """`gIoU` and `cIoU` in percent, None without any picture; the small terms are LISA's."""
        if not self._pixels:
            return {"gIoU": None, "cIoU": None}
        ious = [i / (u + 1e-5) if u else 1.0 for i, u in self._pixels]
        intersection, union = (sum(column) for column in zip(*self._pixels, strict=True))
        return {
            "gIoU": 100 * math.fsum(ious) / len(ious),
            "cIoU": 100 * intersection / (union + 1e-10),
        }


def reason_seg_metrics(predictions: Sequence[Any], truths: Sequence[Any]) -> dict[str, float | None]:
    """Compute LISA's gIoU and cIoU of masks.

    Args:
        predictions: N masks [H, W] bool; arrays or tensors.
        truths: N masks [H, W] uint8 in {0, 1, 255}; pixels of 255 count neither for nor against.

    Returns:
        `gIoU` and `cIoU` in percent.

    Raises:
        ValueError: When numbers or sizes differ, or a truth holds another value.
    """
    if len(predictions) != len(truths):
        raise ValueError(f"{len(predictions)} predictions for {len(truths)} truths: give one for each picture")
    metric = ReasonSegMetric()
    for number, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        try:
            intersection, union = count_pixels(prediction, truth)
        except ValueError as error:
            raise ValueError(f"picture {number}: {error}") from error
        metric.update([intersection], [union])
    return metric.compute()
