"""Scenes of the shapes data set: what a picture holds, drawn at random from a seed.

A scene has an upper and a lower band (sky above grass, ...); each holds up to three shapes side by side.
Equal neighbors form a group, and no two groups of a scene look alike: so the words for a group point at it alone.
Some shapes bear a sign, a digit or letter too small to read unless one looks closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLORS = {
    "red": (214, 38, 38),
    "orange": (250, 140, 20),
    "yellow": (248, 224, 40),
    "green": (20, 140, 50),
    "blue": (35, 60, 205),
    "purple": (135, 40, 160),
    "black": (22, 22, 26),
}
SIZES = ("large", "small")
UPPER = {"sky": "in", "wall": "on", "sea": "in"}
LOWER = {"grass": "on", "sand": "on", "snow": "on", "road": "on"}
STUFF = (*UPPER, *LOWER)
PREPOSITIONS = UPPER | LOWER
SIGNS = "0123456789CEFHKLMNPRTUWXY"  # none of them looks like another one, or is a word
FIRST_SHAPE = 2  # region values: 0 upper band, 1 lower band, then the shapes in reading order
_SIDES = 320, 416  # pixels of the longer side, lowest and highest
_RADII = {"large": (0.125, 0.140), "small": (0.086, 0.097)}  # of the circle around a shape, over the longer side
_COUNTS = 0.15, 0.37, 0.32, 0.16  # chance of 0, 1, ... shapes in a band
_REPEATED = 0.3  # share of shapes that look like the one before
_SIGNED = 0.5  # share of shapes that bear a sign


@dataclass(frozen=True)
class Shape:
    """One shape.

    Lengths are in pixels, the angle in radians; `band` is 0 (upper) or 1 (lower). `sign` is empty for none,
    and `sign_at` the middle of it.
    """

    kind: str
    color: str
    size: str
    band: int
    x: float
    y: float
    radius: float
    angle: float
    sign: str
    sign_at: tuple[float, float]

    @property
    def looks(self) -> tuple[str, str, str]:
        """What one sees from afar: (kind, color, size)."""
        return self.kind, self.color, self.size


@dataclass(frozen=True)
class Scene:
    """All that is needed to draw and to describe a picture. Shapes are in reading order."""

    width: int
    height: int
    stuff: tuple[str, str]
    horizon: float
    slope: float
    shapes: tuple[Shape, ...]
    seed: int

    def place(self, band: int) -> str:
        """Where the shapes of a band are: `on the sand`."""
        return f"{PREPOSITIONS[self.stuff[band]]} the {self.stuff[band]}"

    def members(self, band: int) -> list[int]:
        """Positions in `shapes` of the shapes of one band, from left to right."""
        return [i for i, shape in enumerate(self.shapes) if shape.band == band]

    def groups(self, band: int) -> list[tuple[int, ...]]:
        """Runs of equal neighbors of one band, as positions in `shapes`, from left to right."""
        return [tuple(run) for _, run in groupby(self.members(band), key=lambda i: self.shapes[i].looks)]


def sample_scene(seed: int) -> Scene:
    """Draw a scene at random; the same seed gives the same scene."""
    rng = np.random.default_rng(seed)
    width, height = _sample_canvas(rng)
    counts = _sample_counts(rng)
    low, high = {(True, True): (0.45, 0.55), (True, False): (0.5, 0.7), (False, True): (0.3, 0.5)}[
        (counts[0] > 0, counts[1] > 0)
    ]
    horizon = height * rng.uniform(low, high)
    slope = rng.uniform(-0.03, 0.03)
    stuff = (str(rng.choice(list(UPPER))), str(rng.choice(list(LOWER))))
    looks, signs = _sample_looks(rng, counts), _sample_signs(rng, sum(counts))
    shapes = [
        shape
        for band, (top, bottom) in enumerate([(0.0, horizon), (horizon, float(height))])
        for shape in _place_band(rng, band, looks[band], signs, (width, height), top, bottom)
    ]
    return Scene(width, height, stuff, horizon, slope, tuple(shapes), seed)


def _sample_canvas(rng: np.random.Generator) -> tuple[int, int]:
    long = int(rng.integers(_SIDES[0], _SIDES[1] + 1))
    short = int(round(long * rng.uniform(0.75, 1.0)))
    form = rng.integers(3)
    return [(long, long), (long, short), (short, long)][form]


def _sample_counts(rng: np.random.Generator) -> tuple[int, int]:
    """Shapes per band, at least one in all."""
    while True:
        upper, lower = rng.choice(len(_COUNTS), size=2, p=_COUNTS)
        if upper + lower:
            return int(upper), int(lower)


def _sample_looks(rng: np.random.Generator, counts: tuple[int, int]) -> list[list[tuple[str, str, str]]]:
    """(kind, color, size) of the shapes of both bands; equal ones are always neighbors."""
    bands: list[list[tuple[str, str, str]]] = []
    used: set[tuple[str, str, str]] = set()
    for count in counts:
        looks: list[tuple[str, str, str]] = []
        while len(looks) < count:
            new = _sample_look(rng)
            if looks and rng.random() < _REPEATED:
                new = looks[-1]
            if new not in used or looks[-1:] == [new]:
                looks.append(new)
                used.add(new)
        bands.append(looks)
    return bands


def _sample_look(rng: np.random.Generator) -> tuple[str, str, str]:
    return str(rng.choice(SHAPES)), str(rng.choice(list(COLORS))), "large" if rng.random() < 0.6 else "small"


def _sample_signs(rng: np.random.Generator, count: int) -> Iterator[str]:
    """A sign or none for each shape; no sign twice."""
    signs = rng.permutation(list(SIGNS))[:count]
    return iter([str(sign) if rng.random() < _SIGNED else "" for sign in signs])


def _place_band(
    rng: np.random.Generator,
    band: int,
    looks: list[tuple[str, str, str]],
    signs: Iterator[str],
    canvas: tuple[int, int],
    top: float,
    bottom: float,
) -> Iterator[Shape]:
    """Place shapes side by side between the picture's left and right border and `top` and `bottom`."""
    width, side = canvas[0], max(canvas)
    radii = [side * rng.uniform(*_RADII[size]) for _, _, size in looks]
    gap = 0.02 * side
    fit = min(1.0, (width - gap * (len(looks) + 1)) / max(2 * sum(radii), 1))  # three large ones in a tall picture
    radii = [radius * fit for radius in radii]
    room = width - 2 * sum(radii) - gap * (len(looks) + 1)
    spaces = rng.dirichlet(np.ones(len(looks) + 1)) * room + gap
    left = 0.0
    for (kind, color, size), radius, space in zip(looks, radii, spaces, strict=False):
        x = left + space + radius
        margin = radius + 0.015 * side
        y = rng.uniform(top + margin, max(bottom - margin, top + margin + 1e-3))
        sign_x, sign_y = (x, y) + 0.1 * radius * rng.uniform(-1, 1, 2)
        sign_at = float(sign_x), float(sign_y)
        yield Shape(kind, color, size, band, x, y, radius, rng.uniform(-0.2, 0.2), next(signs), sign_at)
        left = x + radius
