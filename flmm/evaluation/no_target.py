"""Phrases that the picture does not show: found to be absent or not, as in gRefCOCO (Liu et al., CVPR 2023)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class NoTargetMetric:
    """Accuracy of saying that nothing is there, and gIoU over phrases with and without a target."""

    _phrases: list[tuple[bool, bool, float]] = field(default_factory=list)

    def update(self, areas: Sequence[int], pixels: Sequence[int], ious: Sequence[float]) -> None:
        """Add M phrases: pixels of the true mask (0 for no target), of the mask that is found, and their IoU.

        Raises:
            ValueError: When the three do not have the same length.
        """
        if len({len(areas), len(pixels), len(ious)}) != 1:
            raise ValueError(f"{len(areas)} areas, {len(pixels)} sizes, {len(ious)} IoUs: one each per phrase")
        self._phrases += [(area > 0, found > 0, iou) for area, found, iou in zip(areas, pixels, ious, strict=True)]

    def merge(self, other: "NoTargetMetric") -> None:
        """Add the phrases that another accumulator has seen."""
        self._phrases += other._phrases

    def compute(self) -> dict[str, float | None]:
        """`N_acc`: share of phrases without a target where no pixel is found; `T_acc`: of the others where one is.

        `gIoU` is the mean IoU, in which a phrase without a target counts 1 where no pixel is found. In percent, None
        where there is no phrase; also their numbers, `no_target` and `phrases`.
        """
        absent = [not found for has_target, found, _ in self._phrases if not has_target]
        present = [found for has_target, found, _ in self._phrases if has_target]
        ious = [iou if has_target else float(not found) for has_target, found, iou in self._phrases]
        return {
            "N_acc": 100 * sum(absent) / len(absent) if absent else None,
            "T_acc": 100 * sum(present) / len(present) if present else None,
            "gIoU": 100 * math.fsum(ious) / len(ious) if ious else None,
            "no_target": len(absent),
            "phrases": len(ious),
        }
