"""Which layers and heads ground: the IoU of every attention map with the true mask, before any training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flmm.evaluation.plots.figures import HEAT, WIDTH, new_figure
from flmm.models.functional import crop_to_picture, merge_rows, rows_by_phrase
from flmm.models.reader import Merge, Reader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MERGES: tuple[Merge, ...] = ("mean", "max")
MOST_NUMBERS = 64  # cells of a heat map that are written on


@dataclass(frozen=True)
class HeadScores:
    """How well each attention map alone finds phrases.

    Attributes:
        iou: For 'mean' and 'max', how the rows of a phrase are merged: V tensors [L, A] of the mean IoU, 0..1.
        reachable: V numbers, the mean IoU of the best masks that whole cells can make.
        phrases: How many phrases were read.
    """

    iou: dict[Merge, list[Tensor]]
    reachable: list[float]
    phrases: int

    def best(self, count: int = 5) -> list[tuple[Merge, int, int, int, float]]:
        """Merge, view, layer, head and IoU of the maps that find most, best first."""
        every = [
            (merge, view, layer, head, float(value))
            for merge, views in self.iou.items()
            for view, maps in enumerate(views)
            for (layer, head), value in np.ndenumerate(maps.numpy())
        ]
        return sorted(every, key=lambda one: -one[-1])[:count]


def head_scores(model: Any, samples: Iterable[Mapping[str, Any]]) -> HeadScores:
    """Measure every layer and head of an LMM alone, with both ways to merge the tokens of a phrase.

    A map is cut in two by its values (`attended_cells`), and the part with more attention is the mask. A cell counts
    with the share of its pixels that the true mask covers: the IoU in pixels of a mask made of whole cells.

    Args:
        model: A FrozenLMM; its head is not used.
        samples: Samples with `gt_masks` [M, H, W].

    Raises:
        ValueError: When there is no sample.
    """
    reader = Reader(model.backbone, "mean", max_tokens=1)  # a pass for each sample
    found = [_scores(reader, sample) for sample in samples]
    if not found:
        raise ValueError("there is no sample to measure attention maps on: give at least one")

    def mean(key: str) -> list[Tensor]:  # over all phrases, of each view
        return [torch.cat(parts, dim=-1).mean(-1) for parts in zip(*(one[key] for one in found), strict=True)]

    iou = {merge: mean(merge) for merge in MERGES}
    return HeadScores(
        iou, [float(value) for value in mean("reachable")], sum(len(one["reachable"][0]) for one in found)
    )


def _scores(reader: Reader, sample: Mapping[str, Any]) -> dict[str, list[Tensor]]:
    """Of one sample and each of V views: IoU [L, A, M] of both merges, and [M] that cells can reach."""
    views, phrases = token_maps(reader, sample)
    shares = [cell_shares(sample["gt_masks"], view) for view in views]
    scores: dict[str, list[Tensor]] = {
        merge: [
            soft_iou(attended_cells(torch.stack([merge_rows(layer, phrases, merge) for layer in view])), share)
            for view, share in zip(views, shares, strict=True)
        ]
        for merge in MERGES
    }
    return {**scores, "reachable": [best_iou(share) for share in shares]}


def token_maps(reader: Reader, sample: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Attention of each token of the phrases: V tensors [L, A, T, h, w] over the picture, and M lists of rows."""
    phrase_ids = sample["mask_ids"][sample["mask_ids"] >= 0]
    alone = sample["mask_ids"].clone()
    alone[alone >= 0] = torch.arange(len(phrase_ids))  # each token as a phrase, so that nothing is merged
    (reading,) = reader([{**sample, "mask_ids": alone}])
    views = [view.float().cpu() for view in reading.attention]
    if reader.backbone.views_include_padding:
        views = [crop_to_picture(view, sample["meta_data"]) for view in views]
    return views, rows_by_phrase(phrase_ids)


def cell_shares(masks: Tensor, view: Tensor) -> Tensor:
    """Share of each cell of a view [..., h, w] that masks [M, H, W] cover: [M, h, w]."""
    return F.adaptive_avg_pool2d(torch.as_tensor(masks).float()[None], (view.shape[-2], view.shape[-1]))[0]


def attended_cells(maps: Tensor) -> Tensor:
    """Cut maps in two parts of least variance each, the two means of their values, and take the one with more.

    Args:
        maps: [..., h, w] attention.

    Returns:
        [..., h, w] bool; all cells of a map whose values are equal.
    """
    values = maps.double().flatten(-2)
    ordered = values.sort(-1, descending=True).values
    total, size = ordered.sum(-1, keepdim=True), ordered.shape[-1]
    count = torch.arange(1, size + 1, dtype=ordered.dtype)
    above = ordered.cumsum(-1)
    below = (total - above) / (size - count).clamp(min=1)
    between = count * (size - count) * (above / count - below) ** 2
    last = ordered.gather(-1, between.argmax(-1, keepdim=True))
    return (values >= last).view(maps.shape)


def soft_iou(cells: Tensor, shares: Tensor) -> Tensor:
    """IoU in pixels of masks made of whole cells [..., M, h, w] and of masks that cover shares [M, h, w] of them."""
    inside = (cells * shares).sum((-2, -1))
    return inside / (cells.sum((-2, -1)) + shares.sum((-2, -1)) - inside).clamp(min=1e-12)


def best_iou(shares: Tensor) -> Tensor:
    """The largest `soft_iou` [M] of any cells: those that the mask covers most, up to the best number of them."""
    inside = shares.flatten(1).sort(-1, descending=True).values.cumsum(-1)
    count = torch.arange(1, inside.shape[-1] + 1)
    return (inside / (count + inside[:, -1:] - inside)).amax(-1)


def draw_heads(scores: HeadScores, title: str) -> Figure:
    """A heat map of L x A IoUs for each merge, one below the other, with the best head framed.

    Args:
        scores: Of `head_scores`; views follow one another.
        title: What was measured.
    """
    panels = [(merge, view, maps) for merge, views in scores.iou.items() for view, maps in enumerate(views)]
    layers, heads = panels[0][2].shape
    height = min(WIDTH, 0.8 + (WIDTH - 1) * layers / heads)
    figure = new_figure(0.5 + len(panels) * max(height, 1.6))
    top = max(float(maps.max()) for _, _, maps in panels)
    many = len(scores.reachable) > 1
    for axes, (merge, view, maps) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        picture = axes.imshow(maps, cmap=HEAT, vmin=0, vmax=top, aspect="auto")
        layer, head = divmod(int(maps.argmax()), heads)
        axes.add_patch(_frame(head, layer))
        name = f"tokens of a phrase merged by {merge}" + (f", view {view}" if many else "")
        best = f"best: layer {layer}, head {head}, IoU {float(maps.max()):.2f}, mean of all {float(maps.mean()):.2f}"
        axes.set_title(f"{name}\n{best}; cells can reach {scores.reachable[view]:.2f}", fontsize=9, loc="left")
        axes.set(ylabel="layer", xlabel="head")
        axes.locator_params(integer=True)
        figure.colorbar(picture, ax=axes, label="mean IoU", pad=0.02)
        if layers * heads <= MOST_NUMBERS:
            _write_values(axes, maps, top)
    figure.suptitle(f"{title}\n{scores.phrases} phrases", fontsize=10, x=0.01, ha="left")
    return figure


def _frame(head: int, layer: int) -> Any:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    seen = [withStroke(linewidth=5, foreground="black")]  # on light cells too
    place = (head - 0.46, layer - 0.46)
    return Rectangle(place, 0.92, 0.92, fill=False, edgecolor="white", linewidth=2, path_effects=seen)


def _write_values(axes: Any, maps: Tensor, top: float) -> None:
    """Write each value into its cell, dark on light and light on dark."""
    for (layer, head), value in np.ndenumerate(maps.numpy()):
        color = "black" if value > 0.6 * top else "white"
        axes.text(head, layer, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
