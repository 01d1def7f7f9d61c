"""Many scenes at once, drawn in parallel on padded squares; shared by the two trainings."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from flmm.datasets.shapes_scene import Scene, render, sample_scene

PADDING = (122, 116, 104)  # CLIP's mean colour
OUTSIDE = 255  # region value of padding


@dataclass
class ScenePool:
    """N scenes with pictures, uint8 [N, side, side, 3], and region maps, uint8 [N, side, side]."""

    scenes: list[Scene]
    images: np.ndarray
    regions: np.ndarray


def make_pool(first_seed: int, count: int, side: int, centred: bool = True, workers: int = 2) -> ScenePool:
    """Draw the scenes of `count` consecutive seeds on squares: centred for CLIP, at the top left for SAM."""
    seeds = range(first_seed, first_seed + count)
    images = np.empty((count, side, side, 3), np.uint8)
    regions = np.empty((count, side, side), np.uint8)
    with ProcessPoolExecutor(workers) as executor:
        drawn = executor.map(partial(draw_square, side=side, centred=centred), seeds, chunksize=64)
        for index, (image, region) in enumerate(drawn):
            images[index], regions[index] = image, region
    return ScenePool([sample_scene(seed) for seed in seeds], images, regions)


def draw_square(seed: int, side: int, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """Picture and region map of one scene on a padded square."""
    image, regions = render(sample_scene(seed))
    height, width = regions.shape
    scale = side / max(height, width)
    size = (int(width * scale), int(height * scale))
    left, top = ((side - size[0]) // 2, (side - size[1]) // 2) if centred else (0, 0)
    canvas = np.full((side, side, 3), PADDING, np.uint8)
    frame = np.full((side, side), OUTSIDE, np.uint8)
    window = np.s_[top : top + size[1], left : left + size[0]]
    canvas[window] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    frame[window] = np.asarray(Image.fromarray(regions).resize(size, Image.Resampling.NEAREST))
    return canvas, frame
