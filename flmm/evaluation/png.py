"""Panoptic narrative grounding: recall of the phrases of a caption (Gonzalez et al., ICCV 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from flmm.evaluation.masks import to_list

Numbers = Tensor | Sequence[float]
Flags = Tensor | Sequence[bool]
GROUPS = ("all", "things", "stuff", "singulars", "plurals")


def average_recall(ious: Numbers) -> float:
    """Recall averaged over the IoU thresholds 0..1: the integral of recall(t) = share of `ious` >= t.

    Each phrase is recalled for all t up to its own IoU, so the integral is the mean IoU: exact, no grid.
    The benchmark's code approximates it with a left Riemann sum over thresholds 0, 1e-5, .., 0.99999: at
    most 1e-5 away (0.99999 when all masks are perfect, 1e-5 when all are wrong).

    Args:
        ious: N values in 0..1.

    Returns:
        The average in 0..1.

    Raises:
        ValueError: When there is no value.
    """
    values = to_list(ious)
    if not values:
        raise ValueError("average recall of no phrase at all: there must be at least one IoU")
    return math.fsum(values) / len(values)


@dataclass(frozen=True)
class _Phrase:
    iou: float
    pixel_accuracy: float
    is_thing: bool
    is_plural: bool

    def belongs_to(self, group: str) -> bool:
        return {
            "all": True,
            "things": self.is_thing,
            "stuff": not self.is_thing,
            "singulars": not self.is_plural,
            "plurals": self.is_plural,
        }[group]


def _summary(phrases: list[_Phrase]) -> dict[str, float | None]:
    if not phrases:
        return {"average_recall": None, "accuracy": None, "pixel_accuracy": None, "phrases": 0}
    share = 100.0 / len(phrases)
    return {
        "average_recall": 100 * average_recall([phrase.iou for phrase in phrases]),
        "accuracy": share * sum(phrase.iou > 0.5 for phrase in phrases),
        "pixel_accuracy": share * math.fsum(phrase.pixel_accuracy for phrase in phrases),
        "phrases": len(phrases),
    }


@dataclass
class PNGMetric:
    """Average recall, accuracy at IoU > 0.5 and pixel accuracy, for all phrases and for groups of them."""

    _phrases: list[_Phrase] = field(default_factory=list)

    def update(self, ious: Numbers, pixel_accuracies: Numbers, is_thing: Flags, is_plural: Flags) -> None:
        """Add M phrases: IoU and pixel accuracy in 0..1, and the groups they belong to.

        Raises:
            ValueError: When the four do not have the same length.
        """
        columns = [to_list(column) for column in (ious, pixel_accuracies, is_thing, is_plural)]
        if len({len(column) for column in columns}) != 1:
            lengths = [len(column) for column in columns]
            raise ValueError(f"{lengths} IoUs, pixel accuracies, thing and plural flags: one each per phrase")
        self._phrases += [_Phrase(*row) for row in zip(*columns, strict=True)]

    def merge(self, other: "PNGMetric") -> None:
        """Add the phrases that another accumulator has seen."""
        self._phrases += other._phrases

    def compute(self) -> dict[str, dict[str, float | None]]:
        """Per group `average_recall`, `accuracy`, `pixel_accuracy` in percent (None if empty), `phrases`."""
        return {group: _summary([phrase for phrase in self._phrases if phrase.belongs_to(group)]) for group in GROUPS}
