"""Many scenes at once, drawn in parallel on padded squares; shared by the trainings and measurements."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from flmm.datasets.shapes.drawing import render, sign_height
from flmm.datasets.shapes.scene import FIRST_SHAPE, Scene, Shape, sample_scene

PADDING = (122, 116, 104)  # CLIP's mean color
OUTSIDE = 255  # region value of padding
WORKERS = len(os.sched_getaffinity(0))
Box = tuple[int, int, int, int]


@dataclass
class ScenePool:
    """N scenes with pictures, uint8 [N, side, side, 3], and region maps, uint8 [N, side, side].

    With close-ups, `scenes`, `images` and `regions` have a second half: of each scene one shape, cropped as
    visual chain of thought crops. `shown` [2 N] names that shape (-1 for whole pictures), `signs` [2 N, 4] the
    box of its sign in the close-up, x0, y0, x1, y1 (zeros for none).
    """

    scenes: list[Scene]
    images: np.ndarray
    regions: np.ndarray
    shown: np.ndarray
    signs: np.ndarray

    def part(self, where: slice) -> ScenePool:
        """Some of the pictures."""
        arrays = (self.images, self.regions, self.shown, self.signs)
        return ScenePool(self.scenes[where], *(array[where] for array in arrays))


def make_pool(first_seed: int, count: int, side: int, centered: bool = True, workers: int = WORKERS) -> ScenePool:
    """Draw the scenes of `count` consecutive seeds on squares: centered for CLIP, at the top left for SAM."""
    seeds = range(first_seed, first_seed + count)
    pool = _empty(seeds, 1, side, None)
    for index, (image, region) in enumerate(_draw(partial(draw_whole, side=side, centered=centered), seeds, workers)):
        pool.images[index], pool.regions[index] = image, region
    return pool


def make_closeup_pool(
    first_seed: int, count: int, side: int, workers: int = WORKERS, folder: Path | None = None
) -> ScenePool:
    """Draw scenes and one close-up of each, centered on squares.

    Args:
        first_seed: Of the first scene.
        count: Scenes.
        side: Of the squares, in pixels.
        workers: Processes.
        folder: Keeps the arrays on disk and takes them from there the next time; in memory when not given.
    """
    seeds = range(first_seed, first_seed + count)
    stored = folder and folder / f"{first_seed}-{count}-{side}"
    done = stored and (stored / "done").is_file()
    pool = _empty(seeds, 2, side, stored)
    if done:
        return pool
    for index, (whole, closeup, shown, sign) in enumerate(_draw(partial(draw_both, side=side), seeds, workers)):
        for half, (image, region) in ((0, whole), (count, closeup)):
            pool.images[half + index], pool.regions[half + index] = image, region
        pool.shown[count + index], pool.signs[count + index] = shown, sign
    if stored:
        (stored / "done").touch()
    return pool


def _empty(seeds: range, halves: int, side: int, folder: Path | None) -> ScenePool:
    count = halves * len(seeds)
    shapes = {"images": (count, side, side, 3), "regions": (count, side, side), "shown": (count,), "signs": (count, 4)}
    arrays = {}
    for name, shape in shapes.items():
        kind = np.uint8 if name in ("images", "regions") else np.int16
        if folder is None:
            arrays[name] = np.zeros(shape, kind)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.npy"
        arrays[name] = np.lib.format.open_memmap(file, "r+" if file.is_file() else "w+", kind, shape)
    if folder is None or not (folder / "done").is_file():
        arrays["shown"][:] = -1
    scenes = [sample_scene(seed) for seed in seeds]
    return ScenePool(scenes * halves, **arrays)


def _draw(function, seeds: range, workers: int) -> Iterable:
    with ProcessPoolExecutor(workers) as executor:
        yield from executor.map(function, seeds, chunksize=64)


def draw_whole(seed: int, side: int, centered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Picture and region map of one scene on a padded square."""
    return to_square(*render(sample_scene(seed)), side, centered)[:2]


def draw_both(seed: int, side: int) -> tuple[tuple, tuple, int, np.ndarray]:
    """A scene, a close-up of one of its shapes, that shape, and the sign's box in the close-up."""
    scene, rng = sample_scene(seed), np.random.default_rng([seed, 7])
    image, regions = render(scene)
    signed = [i for i, shape in enumerate(scene.shapes) if shape.sign]
    chosen = int(rng.choice(signed if signed and rng.random() < 0.9 else len(scene.shapes)))
    box = closeup_box(regions == FIRST_SHAPE + chosen, rng)
    window = np.s_[box[1] : box[3], box[0] : box[2]]
    crop, map_, scale, before = to_square(image[window], regions[window], side)
    sign = sign_box(scene.shapes[chosen], sign_height(scene), box, scale, before)
    return to_square(image, regions, side)[:2], (crop, map_), chosen, sign


def sign_box(shape: Shape, height: float, box: Box, scale: float, before: tuple[int, int]) -> np.ndarray:
    """Where the sign lies in a close-up, x0, y0, x1, y1."""
    if not shape.sign:
        return np.zeros(4)
    x, y = ((at - start) * scale + pad for at, start, pad in zip(shape.sign_at, box, before, strict=False))
    half = height * scale / 2
    return np.array([x - half * 5 / 7, y - half, x + half * 5 / 7, y + half])


def closeup_box(mask: np.ndarray, rng: np.random.Generator) -> Box:
    """The box that visual chain of thought makes of a predicted mask: about the mask's, at least 16 pixels wide."""
    y, x = mask.nonzero()
    box = np.array([x.min(), y.min(), x.max(), y.max()], float)
    size = np.tile(box[2:] - box[:2], 2)
    box += (0.04 * size + 1) * rng.standard_normal(4)
    if rng.random() < 0.15:  # a mask that runs over
        box += rng.uniform(0, 0.5, 4) * size * [-1, -1, 1, 1]
    middle, half = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 8)
    limit = np.array(mask.shape[::-1])
    low, high = (middle - half).clip(0, limit), (middle + half).clip(0, limit)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def to_square(
    image: np.ndarray, regions: np.ndarray, side: int, centered: bool = True
) -> tuple[np.ndarray, np.ndarray, float, tuple[int, int]]:
    """Picture and region map on a padded square, the scale, and (columns, rows) of padding before."""
    height, width = regions.shape
    scale = side / max(height, width)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    left, top = ((side - size[0]) // 2, (side - size[1]) // 2) if centered else (0, 0)
    canvas = np.full((side, side, 3), PADDING, np.uint8)
    frame = np.full((side, side), OUTSIDE, np.uint8)
    window = np.s_[top : top + size[1], left : left + size[0]]
    canvas[window] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    frame[window] = np.asarray(Image.fromarray(regions).resize(size, Image.Resampling.NEAREST))
    return canvas, frame, scale, (left, top)
