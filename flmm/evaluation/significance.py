"""How sure a figure is, and whether two runs differ: by drawing pictures again (bootstrap) and swapping them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
_CHUNK = 250


@dataclass(frozen=True)
class Ratio:
    """A figure as a ratio of sums over pictures: mean IoU (sum of IoUs / phrases) or cIoU (intersections / unions).

    Attributes:
        tops: [N] float, what each picture adds to the upper sum.
        bottoms: [N] float, what it adds to the lower one.
    """

    tops: np.ndarray
    bottoms: np.ndarray

    @property
    def value(self) -> float:
        """Return the figure in percent; NaN over nothing."""
        return float(_percent(self.tops.sum(), self.bottoms.sum()))


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % confidence interval, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A difference of two runs on the same pictures, and how likely one as large is by chance alone, 0..1."""

    p: float


def _percent(tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """Ratios in percent; NaN where a draw has no phrase of a group, which then does not count."""
    return 100 * tops / np.where(bottoms > 0, bottoms, np.nan)


def confidence(ratio: Ratio, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The figure with the interval of its bootstrap: pictures are drawn with replacement, their phrases together."""
    values = np.concatenate([_percent(c @ ratio.tops, c @ ratio.bottoms) for c in _draws(ratio, seed, resamples)])
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Interval(ratio.value, float(low), float(high))


def compare(one: Ratio, other: Ratio, seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """Return the difference other - one: paired bootstrap for its interval, a paired permutation test for its p.

    The test swaps the two runs in randomly chosen pictures; p is the share of swaps whose difference is as large.

    Raises:
        ValueError: When the runs have different numbers of pictures.
    """
    if len(one.tops) != len(other.tops):
        raise ValueError(f"{len(one.tops)} pictures in one run, {len(other.tops)} in the other: compare the same ones")
    draws = [
        _percent(c @ other.tops, c @ other.bottoms) - _percent(c @ one.tops, c @ one.bottoms)
        for c in _draws(one, seed, resamples)
    ]
    low, high = np.nanpercentile(np.concatenate(draws), (2.5, 97.5))
    seen = other.value - one.value
    swapped = np.concatenate(list(_swapped(one, other, seed, resamples)))
    p = (1 + (np.abs(swapped) >= abs(seen) - 1e-12).sum()) / (1 + len(swapped))
    return Difference(seen, float(low), float(high), float(p))


def _draws(ratio: Ratio, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Chunks [n, N] of how often each picture is drawn."""
    rng, pictures = np.random.default_rng(seed), len(ratio.tops)
    for count in _chunks(resamples):
        yield rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=count).astype(np.float64)


def _swapped(one: Ratio, other: Ratio, seed: int, resamples: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for count in _chunks(resamples):
        keep = rng.integers(0, 2, size=(count, len(one.tops))).astype(np.float64)
        swap = 1 - keep
        first = _percent(keep @ one.tops + swap @ other.tops, keep @ one.bottoms + swap @ other.bottoms)
        second = _percent(swap @ one.tops + keep @ other.tops, swap @ one.bottoms + keep @ other.bottoms)
        yield second - first


def _chunks(resamples: int) -> Iterator[int]:
    for start in range(0, resamples, _CHUNK):
        yield min(_CHUNK, resamples - start)
