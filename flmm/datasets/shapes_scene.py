"""Scenes of the shapes data set: coloured shapes on two bands of stuff, drawn, captioned and referred to.

A scene has an upper and a lower band (sky above grass, ...); each holds up to two shapes side by side.
Reading order is the upper band from left to right, then the lower; equal neighbours make one plural phrase.
So a picture has exactly one caption, and a model's reading of it can be measured by string equality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "cross")
PLURALS = {kind: f"{kind}{'es' if kind == 'cross' else 's'}" for kind in SHAPES}
NUMBERS = {2: "two", 3: "three"}
COLOURS = {
    "red": (214, 38, 38),
    "orange": (250, 140, 20),
    "yellow": (248, 224, 40),
    "green": (20, 140, 50),
    "blue": (35, 60, 205),
    "purple": (135, 40, 160),
    "black": (22, 22, 26),
}
# Radius of the circumscribed circle as a fraction of the longer image side.
SIZES = {"large": (0.135, 0.150), "small": (0.097, 0.110)}
UPPER = {"sky": "in", "wall": "on", "sea": "in"}
LOWER = {"grass": "on", "sand": "on", "snow": "on", "road": "on"}
STUFF = (*UPPER, *LOWER)
_STUFF_COLOURS = {
    "sky": (150, 200, 240),
    "wall": (196, 160, 140),
    "sea": (70, 150, 160),
    "grass": (135, 165, 85),
    "sand": (226, 205, 160),
    "snow": (238, 240, 245),
    "road": (128, 128, 130),
}
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Shape:
    """One shape; lengths in pixels, angle in radians, `band` 0 (upper) or 1 (lower)."""

    kind: str
    colour: str
    size: str
    band: int
    x: float
    y: float
    radius: float
    angle: float


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


@dataclass(frozen=True)
class Segment:
    """A piece of a caption; `regions` are the values of the region map it speaks of (none: plain words)."""

    utterance: str
    regions: tuple[int, ...] = ()
    plural: bool = False


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
    shapes = [
        shape
        for band, (top, bottom) in enumerate([(0.0, horizon), (horizon, float(height))])
        for shape in _sample_band(rng, band, counts[band], width, top, bottom, max(width, height))
    ]
    return Scene(width, height, stuff, horizon, slope, tuple(shapes), seed)


def _sample_canvas(rng: np.random.Generator) -> tuple[int, int]:
    long = int(rng.integers(224, 321))
    short = int(round(long * rng.uniform(0.75, 1.0)))
    form = rng.integers(3)
    return [(long, long), (long, short), (short, long)][form]


def _sample_counts(rng: np.random.Generator) -> tuple[int, int]:
    """Shapes per band, at least one in all."""
    while True:
        upper, lower = rng.choice(3, size=2, p=[0.2, 0.4, 0.4])
        if upper + lower:
            return int(upper), int(lower)


def _sample_band(
    rng: np.random.Generator, band: int, count: int, width: int, top: float, bottom: float, side: int
) -> list[Shape]:
    """Place `count` shapes side by side between the image's left and right border and `top` and `bottom`."""
    kinds = _sample_attributes(rng, count)
    radii = [side * rng.uniform(*SIZES[size]) for _, _, size in kinds]
    room = width - 2 * sum(radii) - 0.03 * side * (count + 1)
    if room < 0:  # three large shapes in a tall picture: draw again
        return _sample_band(rng, band, count, width, top, bottom, side)
    spaces = rng.dirichlet(np.ones(count + 1)) * room + 0.03 * side
    shapes, left = [], 0.0
    for (kind, colour, size), radius, space in zip(kinds, radii, spaces, strict=False):
        x = left + space + radius
        margin = radius + 0.015 * side
        y = rng.uniform(top + margin, max(bottom - margin, top + margin + 1e-3))
        shapes.append(Shape(kind, colour, size, band, x, y, radius, rng.uniform(-0.2, 0.2)))
        left = x + radius
    return shapes


def _sample_attributes(rng: np.random.Generator, count: int) -> list[tuple[str, str, str]]:
    """(kind, colour, size) of each shape; a third repeat their neighbour, so that plurals are common."""
    attributes: list[tuple[str, str, str]] = []
    for _ in range(count):
        if attributes and rng.random() < 0.35:
            attributes.append(attributes[-1])
        else:
            size = "large" if rng.random() < 0.6 else "small"
            attributes.append((str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS))), size))
    return attributes


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Returns:
        The picture, uint8 [H, W, 3], and the region map, uint8 [H, W]: 0 upper band, 1 lower band,
        2 + i where shape i covers at least half of the pixel.
    """
    rng = np.random.default_rng([scene.seed, 1])
    regions = _band_map(scene)
    upper, lower = (_texture(rng, name, scene.width, scene.height) for name in scene.stuff)
    image = np.where(regions[..., None] == 0, upper, lower)
    for index, shape in enumerate(scene.shapes):
        x0, y0, alpha = _coverage(shape, scene.width, scene.height)
        window = np.s_[y0 : y0 + alpha.shape[0], x0 : x0 + alpha.shape[1]]
        colour = np.asarray(COLOURS[shape.colour], np.float32) + rng.uniform(-12, 12, 3).astype(np.float32)
        image[window] += alpha[..., None] * (colour - image[window])
        regions[window][alpha >= 0.5] = 2 + index
    image += 2 * rng.standard_normal((scene.height, scene.width, 1), dtype=np.float32)
    image *= rng.uniform(0.93, 1.05)
    return image.clip(0, 255).astype(np.uint8), regions


def _band_map(scene: Scene) -> np.ndarray:
    """0 above the (slightly tilted) horizon, 1 below: uint8 [H, W]."""
    x = np.arange(scene.width)
    line = scene.horizon + scene.slope * (x - scene.width / 2)
    return (np.arange(scene.height)[:, None] >= line[None]).astype(np.uint8)


def _texture(rng: np.random.Generator, name: str, width: int, height: int) -> np.ndarray:
    """A stuff's colour with the pattern that tells it apart: float32 [H, W, 3]."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase = rng.uniform(0, 20)
    grain = rng.standard_normal((height, width), dtype=np.float32)
    pattern = {
        "sky": lambda: 25 * (y / height - 0.3),
        "wall": lambda: -22.0 * (((y + phase) % 16 < 2) | ((x + phase + 12 * ((y + phase) // 16 % 2)) % 24 < 2)),
        "sea": lambda: 14 * np.sin((y + 2 * np.sin(x / 9 + phase)) / 3),
        "grass": lambda: 13 * grain,
        "sand": lambda: 6 * grain + 6 * np.sin((x + 2 * y) / 15 + phase),
        "snow": lambda: 2 * grain,
        "road": lambda: 5 * grain,
    }[name]()
    return np.asarray(_STUFF_COLOURS[name], np.float32) + np.asarray(pattern, np.float32)[..., None]


def _coverage(shape: Shape, width: int, height: int) -> tuple[int, int, np.ndarray]:
    """Offset (x0, y0) of the shape's window in the picture and its coverage, float32 [h, w] in 0..1."""
    x0, y0 = max(int(shape.x - shape.radius) - 1, 0), max(int(shape.y - shape.radius) - 1, 0)
    x1, y1 = min(int(shape.x + shape.radius) + 3, width), min(int(shape.y + shape.radius) + 3, height)
    scale = _SUPERSAMPLING
    canvas = Image.new("L", ((x1 - x0) * scale, (y1 - y0) * scale))
    points = [((x - x0) * scale, (y - y0) * scale) for x, y in _outline(shape)]
    ImageDraw.Draw(canvas).polygon(points, fill=255)
    return x0, y0, np.asarray(canvas.reduce(scale), np.float32) / 255


def _outline(shape: Shape) -> Iterator[tuple[float, float]]:
    """Corner points in pixels."""
    for angle, distance in _CORNERS[shape.kind]:
        direction = angle + shape.angle
        radius = shape.radius * distance
        yield shape.x + radius * math.sin(direction), shape.y - radius * math.cos(direction)


def _cross_corners() -> list[tuple[float, float]]:
    arm, half = 0.94, 0.34
    corners = [(half, arm), (half, half), (arm, half)]
    quarter = [(math.atan2(x, y), math.hypot(x, y)) for x, y in corners]
    return [(angle + turn * math.pi / 2, distance) for turn in range(4) for angle, distance in quarter]


def _regular(count: int, turn: float = 0.0, inner: float | None = None) -> list[tuple[float, float]]:
    """(angle from above, distance from the centre) of a regular polygon's corners, or of a star's."""
    step = 2 * math.pi / count
    if inner is None:
        return [(turn + i * step, 1.0) for i in range(count)]
    return [(i * step / 2, inner if i % 2 else 1.0) for i in range(2 * count)]


_CORNERS = {
    "circle": _regular(64),
    "square": _regular(4, turn=math.pi / 4),
    "triangle": _regular(3),
    "star": _regular(5, inner=0.42),
    "cross": _cross_corners(),
}


def caption(scene: Scene) -> list[Segment]:
    """The one caption of a scene, in reading order, cut into phrases and plain words."""
    places = [
        [Segment((UPPER | LOWER)[name]), Segment(f"the {name}", (band,))] for band, name in enumerate(scene.stuff)
    ]
    upper, lower = (_list_phrases(scene, band) for band in (0, 1))
    if not lower:
        told = [*upper, *places[0], Segment("above"), places[1][1]]
    elif not upper:
        told = [*lower, *places[1], Segment("under"), places[0][1]]
    else:
        told = [*upper, *places[0], Segment("above"), *lower, *places[1]]
    return [*told, Segment(".")]


def _list_phrases(scene: Scene, band: int) -> list[Segment]:
    """`a , b and c`: the shapes of one band, equal neighbours as one phrase."""
    members = [(2 + i, s) for i, s in enumerate(scene.shapes) if s.band == band]
    phrases = []
    for (kind, colour, size), group in groupby(members, key=lambda m: (m[1].kind, m[1].colour, m[1].size)):
        regions = tuple(region for region, _ in group)
        if len(regions) == 1:
            phrases.append(Segment(f"a {size} {colour} {kind}", regions))
        else:
            words = f"{NUMBERS[len(regions)]} {size} {colour} {PLURALS[kind]}"
            phrases.append(Segment(words, regions, plural=True))
    told: list[Segment] = []
    for position, phrase in enumerate(phrases):
        if position:
            told.append(Segment("and" if position == len(phrases) - 1 else ","))
        told.append(phrase)
    return told


def expressions(scene: Scene, index: int, locations: bool = True) -> list[str]:
    """Referring expressions that fit shape `index` and no other shape of the scene, shortest first.

    Args:
        scene: the scene.
        index: position in `scene.shapes`.
        locations: also say where (left, right, in the sky); without, looks only, as in RefCOCO+.
    """
    target = scene.shapes[index]
    found = []
    for attributes in ((), ("colour",), ("size",), ("size", "colour")):
        names = ("kind", *attributes)
        rivals = [s for s in scene.shapes if all(getattr(s, n) == getattr(target, n) for n in names)]
        words = " ".join(getattr(target, n) for n in (*attributes, "kind"))
        if len(rivals) == 1:
            found.append(f"the {words}")
        if locations:
            found += _located(scene, target, rivals, words)
    return found


def _located(scene: Scene, target: Shape, rivals: list[Shape], words: str) -> list[str]:
    """`words` made unique by a side or by the band; also said of an already unique shape by its band."""
    name = scene.stuff[target.band]
    place = f"{(UPPER | LOWER)[name]} the {name}"
    same_band = [s for s in rivals if s.band == target.band]
    found = [f"the {words} {place}"] if len(same_band) == 1 else []
    others = [s.x for s in rivals if s is not target]
    clear = 0.08 * scene.width
    if others and target.x < min(others) - clear:
        found.append(f"the left {words}")
    if others and target.x > max(others) + clear:
        found.append(f"the right {words}")
    return found
