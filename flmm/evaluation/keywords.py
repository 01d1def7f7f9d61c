"""How well phrases of a text are found: precision, recall and F1 of tokens and of spans."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
# Panoptic Narrative Grounding leaves them out of some phrases and not of others, so spans are compared without.
DETERMINER = re.compile(r"\s*(?:(?:an?|the|this|that|these|those|his|her|its|their)\s+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Counts:
    """Count right, wrong and missed items, of which precision, recall and F1 are made.

    Attributes:
        hits: Found, and there.
        found: All that were found.
        there: All that are there.
    """

    hits: int = 0
    found: int = 0
    there: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits + other.hits, self.found + other.found, self.there + other.there)

    def compute(self) -> dict[str, float | None]:
        """Give `precision`, `recall` and `f1` in percent; None where nothing was found, or nothing is there."""

        def percent(part: float, whole: float) -> float | None:
            return 100 * part / whole if whole else None

        return {
            "precision": percent(self.hits, self.found),
            "recall": percent(self.hits, self.there),
            "f1": percent(2 * self.hits, self.found + self.there),
        }


def token_counts(found: Sequence[bool], truth: Sequence[bool]) -> Counts:
    """Compare T tokens: does each belong to a phrase?

    Raises:
        ValueError: When there are not equally many.
    """
    hits = sum(a and b for a, b in zip(found, truth, strict=True))
    return Counts(hits, sum(map(bool, found)), sum(map(bool, truth)))


def span_counts(text: str, found: Collection[Span], truth: Collection[Span], min_iou: float = 1.0) -> Counts:
    """Compare phrases of a text as runs of characters, without white space and determiners at their beginnings.

    Each is matched at most once, best pairs first.

    Args:
        text: The text.
        found: Pairs (start, end).
        truth: Pairs (start, end).
        min_iou: Least share of common characters among those of both; 1 asks for the same phrase.
    """
    left, right = ([bare(text, span) for span in spans] for spans in (found, truth))
    pairs = [(span_iou(a, b), i, j) for i, a in enumerate(left) for j, b in enumerate(right)]
    unfound, unmatched = set(range(len(left))), set(range(len(right)))
    hits = 0
    for iou, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if iou >= min_iou and i in unfound and j in unmatched:
            unfound.remove(i)
            unmatched.remove(j)
            hits += 1
    return Counts(hits, len(left), len(right))


def bare(text: str, span: Span) -> Span:
    """Strip white space around a phrase and a determiner at its beginning; a determiner alone stays."""
    start, end = span
    end = start + len(text[start:end].rstrip())
    match = DETERMINER.match(text, start, end)
    return (match.end(), end) if match and match.end() < end else (start, end)


def span_iou(one: Span, other: Span) -> float:
    """Divide the characters that both have by those that either has."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return max(0, common) / max(1, max(one[1], other[1]) - min(one[0], other[0]))
