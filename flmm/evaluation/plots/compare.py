"""Two runs side by side: the IoU of each phrase in both, differences of groups, and the phrases that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from flmm.evaluation.drawings import GREY
from flmm.evaluation.groups import check_paired, comparison
from flmm.evaluation.plots.cards import Card, Cards, Place, extremes, places
from flmm.evaluation.plots.figures import FIRST, SECOND, new_figure, plain, shade
from flmm.evaluation.plots.sheet import sheet, stacked
from flmm.evaluation.records import Record, read_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Names = tuple[str, str]


def draw_comparison(records: Sequence[Record], others: Sequence[Record], names: Names, kind: str = "refined") -> Figure:
    """Every phrase as a dot, and below the difference of each group of phrases with its 95 % interval.

    Args:
        records: Of the first run.
        others: Of the second run, on the same pictures.
        names: Of both.
        kind: 'refined' or 'coarse'.

    Raises:
        ValueError: When the two are not of the same pictures and phrases.
    """
    found = comparison(records, others, kind, "mIoU")
    figure = new_figure(4.9 + 0.26 * len(found))
    upper, lower = figure.subplots(2, 1, height_ratios=[4, 0.4 + 0.26 * len(found)])
    _dots(upper, _ious(records, kind), _ious(others, kind), names)
    _differences(lower, found)
    figure.suptitle(f"{names[1]} against {names[0]}\n{kind} masks", fontsize=10, x=0.01, ha="left")
    return figure


def _ious(records: Sequence[Record], kind: str) -> np.ndarray:
    return np.array([100 * float(phrase[kind]["iou"]) for record in records for phrase in record["phrases"]])


def _dots(axes: Any, one: np.ndarray, other: np.ndarray, names: Names) -> None:
    better, worse = other > one, other < one
    for chosen, color in ((~better & ~worse, shade(GREY)), (better, FIRST), (worse, SECOND)):
        axes.scatter(one[chosen], other[chosen], s=9, color=color, alpha=0.6, linewidths=0)
    axes.plot((0, 100), (0, 100), color=shade(GREY), linewidth=1)
    axes.set_title(f"better: {int(better.sum())}", color=FIRST, loc="left", fontsize=10)
    axes.set_title(f"worse: {int(worse.sum())}", color=SECOND, loc="right", fontsize=10)
    axes.set(xlabel=f"IoU of {names[0]}, percent", ylabel=f"IoU of {names[1]}, percent", aspect="equal")
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    plain(axes)


def _differences(axes: Any, found: Sequence[Any]) -> None:
    rows = np.arange(len(found))
    for row, (_, _, _, difference) in zip(rows, found, strict=True):
        sure = difference.low > 0 or difference.high < 0
        color = shade(GREY) if not sure else FIRST if difference.value > 0 else SECOND
        axes.plot((difference.low, difference.high), (row, row), color=color, linewidth=1.5)
        axes.plot(difference.value, row, "o", color=color, markersize=5)
    axes.axvline(0, color=shade(GREY), linewidth=1)
    labels = [f"{name} ({count})" if name != "all" else f"all phrases ({count})" for _, name, count, _ in found]
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.set_xlabel("difference of mean IoU, points, with 95 % interval\ncolored where the interval leaves 0 out")
    plain(axes)


def draw_changes(
    folders: tuple[str | Path, str | Path],
    names: Names,
    images: str | Path | None = None,
    number: int = 6,
    kind: str = "refined",
) -> Image.Image:
    """The phrases that lost and those that gained most, each as both runs found it.

    Args:
        folders: Records of both runs.
        names: Of both.
        images: Folder of the pictures; by default the one that was evaluated.
        number: How many of each.
        kind: 'refined' or 'coarse'.

    Raises:
        FileNotFoundError: When records or pictures are missing.
        ValueError: When the two are not of the same pictures and phrases; see `Cards`.
    """
    runs = [read_records(folder) for folder in folders]
    check_paired(*runs)
    one, other = ({(p.record, p.phrase): p for p in places(run, kind)} for run in runs)
    pairs = sorted(((one[key], other[key]) for key in one), key=lambda pair: pair[1].iou - pair[0].iou)
    lost, gained = extremes(pairs, number)
    makers = [Cards(folder, images, kind) for folder in folders]
    parts = {f"lost most: left {names[0]}, right {names[1]}": lost, "gained most": gained}

    def cards(chosen: Sequence[tuple[Place, Place]]) -> list[Card]:
        return [maker.card(place) for pair in chosen for maker, place in zip(makers, pair, strict=True)]

    return stacked([sheet(title, cards(chosen), columns=2) for title, chosen in parts.items() if chosen])


def run_names(folders: tuple[str | Path, str | Path]) -> Names:
    """Two names for two folders of records: the parts of their paths that differ."""
    parts = [Path(folder).resolve().parts for folder in folders]
    differing = [[a for a in one if a not in other] for one, other in (parts, parts[::-1])]
    first, second = ("/".join(rest) or str(folder) for rest, folder in zip(differing, folders, strict=True))
    return first, second
