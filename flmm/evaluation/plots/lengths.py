"""How the IoU spreads: a histogram for each length of phrase and each size of mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flmm.evaluation.drawings import GREY
from flmm.evaluation.groups import GROUPS, MEDIUM, SMALL, group_names, ratio
from flmm.evaluation.plots.figures import FIRST, SECOND, new_figure, plain, shade
from flmm.evaluation.records import KINDS, Record
from flmm.evaluation.significance import confidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = np.linspace(0, 1, 21)
LABELS = {
    "small": f"small (under {SMALL**0.5:.0f}² pixels)",
    "medium": f"medium (to {MEDIUM**0.5:.0f}²)",
}
COLORS = {"refined": FIRST, "coarse": SECOND}


def draw_lengths(records: Sequence[Record], title: str) -> Figure:
    """Histograms of the IoU of refined and coarse masks: all phrases, by length, by size of the true mask.

    Args:
        records: Of an evaluation, one for each picture.
        title: What was evaluated.

    Raises:
        ValueError: When there is no phrase.
    """
    phrases = [phrase for record in records for phrase in record["phrases"]]
    if not phrases:
        raise ValueError("the records hold no phrase: nothing to draw")
    kinds = [kind for kind in KINDS if kind in phrases[0]]
    columns = [_parts(phrases, group) for group in ("length", "mask")]
    rows = 1 + max(map(len, columns))
    figure = new_figure(1.3 + 1.05 * rows)
    grid = figure.add_gridspec(rows, 2)
    _histogram(figure.add_subplot(grid[0, :]), records, kinds, ("all", "all"), "all phrases")
    for column, parts in enumerate(columns):
        for row, (group, name, label) in enumerate(parts, start=1):
            axes = figure.add_subplot(grid[row, column])
            _histogram(axes, records, kinds, (group, name), label)
            if row == len(parts):
                axes.set_xlabel("IoU")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(kinds), frameon=False, fontsize=9)
    figure.suptitle(
        f"{title}\nshare of phrases in percent by IoU; mean IoU [95 % interval]", fontsize=10, x=0.01, ha="left"
    )
    return figure


def _parts(phrases: Sequence[dict[str, Any]], group: str) -> list[tuple[str, str, str]]:
    """(group, name, label) of the parts of a group that have a phrase, from short to long, from small to large."""
    names = [name for found, name in group_names(phrases) if found == group]
    return [(group, name, LABELS.get(name, name)) for name in names]


def _histogram(axes: Any, records: Sequence[Record], kinds: Sequence[str], part: tuple[str, str], label: str) -> None:
    """Histograms of a group: the first kind of mask filled, the others as lines."""
    group, name = part
    chosen = [p for record in records for p in record["phrases"] if GROUPS[group](p) == name]
    for kind in kinds:
        ious = [float(phrase[kind]["iou"]) for phrase in chosen]
        weights = np.full(len(ious), 100 / len(ious))
        style = (
            {"histtype": "stepfilled", "alpha": 0.75} if kind == kinds[0] else {"histtype": "step", "linewidth": 1.5}
        )
        axes.hist(ious, BINS, weights=weights, color=COLORS[kind], label=f"{kind} mask", **style)
    figure = confidence(ratio(records, group, name, kinds[0], "mIoU"))
    facts = f"{len(chosen)} phrases, mean {figure.value:.0f} % [{figure.low:.0f}, {figure.high:.0f}]"
    axes.set_title(label, fontsize=9, loc="left", fontweight="bold", pad=14)
    axes.text(0, 1.02, facts, transform=axes.transAxes, fontsize=8, color=shade(GREY), va="bottom")
    axes.set_xlim(0, 1)
    axes.locator_params(axis="y", nbins=3)
    plain(axes)
