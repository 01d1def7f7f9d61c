"""Figures of groups of phrases, with intervals, from the records of an evaluation; comparison of two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from flmm.evaluation.significance import Difference, Interval, Ratio, compare, confidence

Phrase = dict[str, Any]
METRICS = ("mIoU", "cIoU")
SMALL, MEDIUM = 32**2, 96**2  # pixels, as COCO parts its objects
SIZES = ("small", "medium", "large")


def _words(phrase: Phrase) -> str | None:
    count = len((phrase.get("phrase") or "").split())
    return {0: None, 1: "1 word", 2: "2 words", 3: "3-4 words", 4: "3-4 words"}.get(count, "5 words or more")


def _size(phrase: Phrase) -> str | None:
    area = phrase.get("area")
    if not area:
        return None
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def _flag(key: str, yes: str, no: str) -> Callable[[Phrase], str | None]:
    return lambda phrase: (yes if phrase[key] else no) if key in phrase else None


GROUPS: dict[str, Callable[[Phrase], str | None]] = {
    "all": lambda phrase: "all",
    "length": _words,
    "mask": _size,
    "kind": _flag("isthing", "thing", "stuff"),
    "number": _flag("plural", "plural", "singular"),
    "mention": _flag("mention", "later mention", "first mention"),
}


def _order(pair: tuple[str, str]) -> tuple[int, str]:
    return SIZES.index(pair[1]) if pair[1] in SIZES else -1, pair[1]


def group_names(phrases: Iterable[Phrase]) -> list[tuple[str, str]]:
    """(group, name) of all groups that have a phrase, in a fixed order, short before long and small before large."""
    found = {(group, name) for phrase in phrases for group, of in GROUPS.items() if (name := of(phrase))}
    return [pair for group in GROUPS for pair in sorted(found, key=_order) if pair[0] == group]


def ratio(records: Sequence[dict[str, Any]], group: str, name: str, kind: str, metric: str) -> Ratio:
    """The figure of a group over pictures.

    Args:
        records: Of an evaluation, one for each picture.
        group: One of GROUPS.
        name: Name of a part of it.
        kind: 'refined' or 'coarse'.
        metric: One of METRICS.
    """
    chosen = [[p[kind] for p in record["phrases"] if GROUPS[group](p) == name] for record in records]
    upper, lower = ("iou", None) if metric == "mIoU" else ("intersection", "union")
    tops = [sum(float(phrase[upper]) for phrase in phrases) for phrases in chosen]
    bottoms = [sum(1.0 if lower is None else float(phrase[lower]) for phrase in phrases) for phrases in chosen]
    return Ratio(np.array(tops), np.array(bottoms))


def table(records: Sequence[dict[str, Any]], kind: str, metric: str) -> list[tuple[str, str, int, Interval]]:
    """(group, name, phrases, figure with interval) of every group."""
    phrases = [phrase for record in records for phrase in record["phrases"]]
    return [
        (group, name, _count(phrases, group, name), confidence(ratio(records, group, name, kind, metric)))
        for group, name in group_names(phrases)
    ]


def _count(phrases: Iterable[Phrase], group: str, name: str) -> int:
    return sum(GROUPS[group](phrase) == name for phrase in phrases)


def comparison(
    records: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], kind: str, metric: str
) -> list[tuple[str, str, int, Difference]]:
    """(group, name, phrases, difference others - records) of every group.

    Raises:
        ValueError: When the two are not of the same pictures and phrases.
    """
    check_paired(records, others)
    phrases = [phrase for record in records for phrase in record["phrases"]]
    return [
        (
            group,
            name,
            _count(phrases, group, name),
            compare(ratio(records, group, name, kind, metric), ratio(others, group, name, kind, metric)),
        )
        for group, name in group_names(phrases)
    ]


def check_paired(records: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> None:
    """Refuses two runs that are not of the same pictures and phrases (ValueError)."""
    if len(records) != len(others):
        raise ValueError(f"{len(records)} pictures in one folder, {len(others)} in the other: evaluate the same ones")
    for number, (one, other) in enumerate(zip(records, others, strict=True)):
        said = [[r["file_name"], *(p.get("phrase") for p in r["phrases"])] for r in (one, other)]
        if said[0] != said[1]:
            raise ValueError(f"record {number} is of {said[0][:3]} in one folder and of {said[1][:3]} in the other")
