"""Is the region that attention names the one that the reply depends on? Measured over a set of replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from flmm.chat.explain import Choice, log_probs, token_maps, tokens_of
from flmm.chat.regions import cell_weights, hide

if TYPE_CHECKING:
    from flmm.chat.reply import Reply


@dataclass(frozen=True)
class Trial:
    """One reply, or one phrase of it, over R regions of its picture.

    Attributes:
        text: What was said.
        attention: [R] share of the attention to the picture.
        harm: [R] what hiding each region takes from the log-probability of the words.
        curves: [R + 1] probability of the words (geometric mean of the tokens, over that with the whole picture) by
            'deletion' or 'insertion' and by order 'attention' or 'random'.
        pointed: Whether the cell with most attention lies in the target; None without a target.
    """

    text: str
    attention: np.ndarray
    harm: np.ndarray
    curves: dict[tuple[str, str], np.ndarray]
    pointed: bool | None

    @property
    def correlation(self) -> float:
        """Spearman's rank correlation of attention and harm; NaN where one of them is the same everywhere."""
        if np.ptp(self.attention) == 0 or np.ptp(self.harm) == 0:
            return float("nan")
        return float(spearmanr(self.attention, self.harm).statistic)

    @property
    def same(self) -> bool:
        """Tell whether the region with most attention is the one whose loss harms most."""
        return int(self.attention.argmax()) == int(self.harm.argmax())


@dataclass(frozen=True)
class Faithfulness:
    """What attention is worth as an explanation.

    Attributes:
        trials: One for each reply or phrase.
        grid: Regions along each side of the picture.
    """

    trials: list[Trial]
    grid: int

    def curves(self, name: str, order: str) -> list[np.ndarray]:
        """Return the curves of all trials."""
        return [trial.curves[name, order] for trial in self.trials]

    def summary(self) -> dict[str, float]:
        """Means over the trials; `chance` is what `same` would be by guessing."""
        pointed = [trial.pointed for trial in self.trials if trial.pointed is not None]
        correlations = [trial.correlation for trial in self.trials]
        known = [one for one in correlations if not np.isnan(one)]
        areas = {
            f"{name}_{order}": float(np.mean([curve.mean() for curve in self.curves(name, order)]))
            for name in ("deletion", "insertion")
            for order in ("attention", "random")
        }
        return {
            "trials": len(self.trials),
            "rank_correlation": float(np.mean(known)) if known else float("nan"),
            "same": float(np.mean([trial.same for trial in self.trials])),
            "chance": 1 / self.grid**2,
            "pointing": float(np.mean(pointed)) if pointed else float("nan"),
            **areas,
        }

    def draw(self) -> Image.Image:
        """Mean deletion and insertion curves."""
        from flmm.chat.drawings import draw_faithfulness

        return draw_faithfulness(self)


def faithful(
    replies: Sequence[Reply | tuple[Reply, Any]],
    targets: Sequence[np.ndarray | None] | None = None,
    grid: int = 4,
    fill: str = "mean",
    layer: Choice = "mean",
    head: Choice = "mean",
    seed: int = 0,
) -> Faithfulness:
    """Compare attention with what hiding regions does to replies about their first pictures.

    It reads each picture about 5 grid² times.

    Args:
        replies: Replies, or pairs of a reply and a phrase of it.
        targets: For each of them the true region, [H, W] bool, for the pointing game; None where it is not known.
        grid: The picture is cut into grid x grid regions.
        fill: How a region is hidden: 'mean', 'grey' or 'blur'.
        layer: Layer whose attention is compared, or 'mean'.
        head: Head whose attention is compared, or 'mean'.
        seed: Of the random orders.

    Raises:
        ValueError: For no reply, an empty one, another number of targets.
    """
    targets = [None] * len(replies) if targets is None else targets
    if not replies or len(replies) != len(targets):
        raise ValueError(
            f"{len(replies)} replies with {len(targets)} targets: give at least one, and a target for each"
        )
    if grid < 2:
        raise ValueError(f"grid={grid}: there must be at least 2 x 2 regions to compare")
    generator = np.random.default_rng(seed)
    trials = []
    for item, target in zip(replies, targets, strict=True):
        reply, phrase = item if isinstance(item, tuple) else (item, None)
        rows, found = tokens_of(reply, phrase)
        maps = token_maps(reply, layer, head)[rows].mean(0)
        trials.append(_trial(reply, rows, found.text, maps, target, grid, fill, generator))
    return Faithfulness(trials, grid)


def _trial(
    reply: Reply,
    rows: list[int],
    text: str,
    maps: Tensor,
    target: np.ndarray | None,
    grid: int,
    fill: str,
    generator: np.random.Generator,
) -> Trial:
    image = reply.shown(0).image
    regions = list(_regions(image, grid))
    share = maps / maps.sum().clamp(min=1e-12)
    size = (maps.shape[0], maps.shape[1])
    attention = np.array([float((share * cell_weights(region, size)).sum()) for region in regions])

    def mean_log_prob(hidden: np.ndarray | None) -> float:
        shown = None if hidden is None else hide(image, hidden, fill)
        return float(log_probs(reply, shown)[rows].mean())

    whole = mean_log_prob(None)
    harm = np.array([whole - mean_log_prob(region) for region in regions]) * len(rows)
    curves = {}
    for order, sequence in (("attention", np.argsort(-attention)), ("random", generator.permutation(len(regions)))):
        for name in ("deletion", "insertion"):
            hidden = _steps(regions, sequence, name)
            curves[name, order] = np.exp([mean_log_prob(mask if mask.any() else None) - whole for mask in hidden])
    pointed = None if target is None else bool(_covers(target, maps))
    return Trial(text, attention, harm, curves, pointed)


def _regions(image: Image.Image, grid: int) -> Iterator[np.ndarray]:
    """grid² masks [H, W] that together are the picture."""
    ys, xs = (np.linspace(0, side, grid + 1).round().astype(int) for side in (image.height, image.width))
    for top, bottom in zip(ys, ys[1:], strict=False):
        for left, right in zip(xs, xs[1:], strict=False):
            region = np.zeros((image.height, image.width), dtype=bool)
            region[top:bottom, left:right] = True
            yield region


def _steps(regions: list[np.ndarray], sequence: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """What is hidden at each step: more and more of the picture, or less and less."""
    for count in range(len(regions) + 1):
        chosen = sequence[:count] if name == "deletion" else sequence[count:]
        yield np.any([regions[index] for index in chosen], axis=0) if len(chosen) else np.zeros_like(regions[0])


def _covers(target: np.ndarray, maps: Tensor) -> bool:
    """Tell whether the middle of the cell with most attention lies in the target."""
    row, column = divmod(int(torch.argmax(maps)), maps.shape[1])
    y, x = (
        int((at + 0.5) * side / cells) for at, side, cells in zip((row, column), target.shape, maps.shape, strict=True)
    )
    return bool(target[y, x])
