"""Draws scenes: textures, anti-aliased shapes, signs, and the map of regions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from flmm.datasets.shapes.glyphs import GLYPHS
from flmm.datasets.shapes.scene import COLORS, FIRST_SHAPE, Scene, Shape

SIGN_HEIGHT = 0.022  # of the longer side: under four pixels for an LMM that sees 168, about 16 in a crop of the shape
_SUPERSAMPLING = 4
_STUFF_COLORS = {
    "sky": (150, 200, 240),
    "wall": (196, 160, 140),
    "sea": (70, 150, 160),
    "grass": (135, 165, 85),
    "sand": (226, 205, 160),
    "snow": (238, 240, 245),
    "road": (128, 128, 130),
}
_LIGHT = ("yellow", "orange")  # their signs are black, all others white


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Returns:
        The picture, uint8 [H, W, 3], and the region map, uint8 [H, W]: 0 upper band, 1 lower band,
        2 + i where shape i covers at least half of the pixel.
    """
    rng = np.random.default_rng([scene.seed, 1])
    regions = _band_map(scene)
    upper, lower = (_texture(rng, name, scene) for name in scene.stuff)
    image = np.where(regions[..., None] == 0, upper, lower)
    for index, shape in enumerate(scene.shapes):
        color = np.asarray(COLORS[shape.color], np.float32) + rng.uniform(-12, 12, 3).astype(np.float32)
        window, alpha = _coverage(shape, [outline(shape)], scene)
        image[window] += alpha[..., None] * (color - image[window])
        regions[window][alpha >= 0.5] = FIRST_SHAPE + index
        if shape.sign:
            window, alpha = _coverage(shape, _strokes(shape, sign_height(scene)), scene)
            ink = np.float32(15 if shape.color in _LIGHT else 245)
            image[window] += alpha[..., None] * (ink - image[window])
    image += 2 * rng.standard_normal((scene.height, scene.width, 1), dtype=np.float32)
    image *= rng.uniform(0.93, 1.05)
    return image.clip(0, 255).astype(np.uint8), regions


def _band_map(scene: Scene) -> np.ndarray:
    """0 above the (slightly tilted) horizon, 1 below: uint8 [H, W]."""
    x = np.arange(scene.width)
    line = scene.horizon + scene.slope * (x - scene.width / 2)
    return (np.arange(scene.height)[:, None] >= line[None]).astype(np.uint8)


def _texture(rng: np.random.Generator, name: str, scene: Scene) -> np.ndarray:
    """A stuff's color with the pattern that tells it apart: float32 [H, W, 3]."""
    width, height = scene.width, scene.height
    y, x = np.mgrid[:height, :width].astype(np.float32)
    brick, course, shift, joint, wave, ripple, dune = 30, 20, 15, 2.5, 11, 4, 19  # pixels
    phase = rng.uniform(0, 20)
    grain = rng.standard_normal((height, width), dtype=np.float32)
    pattern = {
        "sky": lambda: 25 * (y / height - 0.3),
        "wall": lambda: (
            -22.0
            * (((y + phase) % course < joint) | ((x + phase + shift * ((y + phase) // course % 2)) % brick < joint))
        ),
        "sea": lambda: 14 * np.sin((y + 2 * np.sin(x / wave + phase)) / ripple),
        "grass": lambda: 13 * grain,
        "sand": lambda: 6 * grain + 6 * np.sin((x + 2 * y) / dune + phase),
        "snow": lambda: 2 * grain,
        "road": lambda: 5 * grain,
    }[name]()
    return np.asarray(_STUFF_COLORS[name], np.float32) + np.asarray(pattern, np.float32)[..., None]


Points = list[tuple[float, float]]


def _coverage(shape: Shape, polygons: list[Points], scene: Scene) -> tuple[tuple[slice, slice], np.ndarray]:
    """The shape's window in the picture, and how much of each pixel the polygons cover: float32 [h, w] in 0..1."""
    x0, y0 = max(int(shape.x - shape.radius) - 1, 0), max(int(shape.y - shape.radius) - 1, 0)
    x1, y1 = (min(int(v + shape.radius) + 3, n) for v, n in ((shape.x, scene.width), (shape.y, scene.height)))
    scale = _SUPERSAMPLING
    canvas = Image.new("L", ((x1 - x0) * scale, (y1 - y0) * scale))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon([((x - x0) * scale, (y - y0) * scale) for x, y in polygon], fill=255)
    return np.s_[y0:y1, x0:x1], np.asarray(canvas.reduce(scale), np.float32) / 255


def outline(shape: Shape) -> Points:
    """Corner points in pixels."""
    corners = [(shape.radius * distance, angle + shape.angle) for angle, distance in _CORNERS[shape.kind]]
    return [(shape.x + r * math.sin(direction), shape.y - r * math.cos(direction)) for r, direction in corners]


def sign_height(scene: Scene) -> float:
    """Height of the scene's signs in pixels."""
    return SIGN_HEIGHT * max(scene.width, scene.height)


def _strokes(shape: Shape, height: float) -> list[Points]:
    """The cells of the sign's glyph as squares in pixels."""
    return list(_cells(GLYPHS[shape.sign], *shape.sign_at, height / 7))


def _cells(rows: tuple[str, ...], x: float, y: float, cell: float) -> Iterator[Points]:
    left, top = x - cell * len(rows[0]) / 2, y - cell * len(rows) / 2
    for i, row in enumerate(rows):
        for j, mark in enumerate(row):
            if mark == "#":
                u, v = left + j * cell, top + i * cell
                yield [(u, v), (u + cell, v), (u + cell, v + cell), (u, v + cell)]


def _cross_corners() -> list[tuple[float, float]]:
    arm, half = 0.94, 0.34
    corners = [(half, arm), (half, half), (arm, half)]
    quarter = [(math.atan2(x, y), math.hypot(x, y)) for x, y in corners]
    return [(angle + turn * math.pi / 2, distance) for turn in range(4) for angle, distance in quarter]


def _regular(count: int, turn: float = 0.0, inner: float | None = None) -> list[tuple[float, float]]:
    """(angle from above, distance from the center) of a regular polygon's corners, or of a star's."""
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
