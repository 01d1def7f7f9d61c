"""The part of a report that leads from figures of groups of phrases to their pictures."""

from __future__ import annotations

import re
from pathlib import Path

from flmm.evaluation.groups import table
from flmm.evaluation.plots.cards import Cards, extremes, places
from flmm.evaluation.plots.figures import as_svg
from flmm.evaluation.plots.lengths import draw_lengths
from flmm.evaluation.records import read_records
from flmm.evaluation.report import Link, Report

HEADER = ("group", "phrases", "mean IoU", "low", "high")


def add_phrases(
    report: Report, folder: str | Path, images: str | Path | None = None, kind: str = "refined", number: int = 3
) -> None:
    """Add histograms, a table of groups of phrases, and for each group the pictures that its mean IoU leads to.

    Args:
        report: What they are added to.
        folder: Records of an evaluation.
        images: Folder of its pictures; by default the one that was evaluated.
        kind: 'refined' or 'coarse'.
        number: Pictures with the lowest, and with the highest IoU of each group.

    Raises:
        FileNotFoundError: When records or pictures are missing.
        ValueError: When a record is damaged or older than true masks.
    """
    records, title = read_records(folder), Path(folder).name
    report.heading("Phrases")
    report.plot(as_svg(draw_lengths(records, title)))
    report.paragraph(
        "Each mean IoU leads to pictures of its group, those with the lowest and those with the highest IoU. "
        "Blue is the mask that was found, the orange line the true one."
    )
    rows = table(records, kind, "mIoU")
    report.table(
        f"{title}: {kind} masks by group, percent, with 95 % interval",
        HEADER,
        [[_words(g, n), count, Link(i.value, _name(title, g, n)), i.low, i.high] for g, n, count, i in rows],
    )
    cards = Cards(folder, images, kind)
    for group, name, _, figure in rows:
        chosen = [place for part in extremes(places(records, kind, group, name), number) for place in part]
        shown = [(card.picture, card.text) for card in map(cards.card, chosen)]
        words = f"{_words(group, name)}, mean IoU {figure.value:.1f} %"
        report.gallery(_name(title, group, name), words, shown)


def _words(group: str, name: str) -> str:
    """What a group is called."""
    return "all phrases" if group == "all" else f"{group}: {name}"


def _name(*parts: str) -> str:
    """A name for a place on the page."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower())
