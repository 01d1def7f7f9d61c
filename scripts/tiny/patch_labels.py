"""What each image patch shows: the labels of the tiny vision tower's first training, and their loss."""

from __future__ import annotations

import numpy as np
import torch
from scene_pool import OUTSIDE, ScenePool
from torch import Tensor
from torch.nn import functional as F

from flmm.datasets.shapes_scene import COLOURS, LOWER, SHAPES, SIZES, UPPER, Scene, caption

LABELS = {  # of a patch, with the number of values each can have
    "kind": 1 + len(UPPER) + len(LOWER) + len(SHAPES),
    "colour": 1 + len(COLOURS),
    "size": 1 + len(SIZES),
    "order": 1 + 6,
    "number": 1 + 3,
}
OUTLINE = 49  # 7 x 7 parts of a patch
HEADS = [*LABELS.values(), OUTLINE, 2]


def patch_labels(pool: ScenePool, patch: int) -> tuple[Tensor, Tensor]:
    """What each patch shows; a fifth of a patch is enough for a shape.

    Returns:
        Classes in the order of `LABELS`, int64 [N, 5, h * w]: kind, colour, size, place of its phrase in the
        caption and how many shapes the phrase has. Outline, float16 [N, h * w, 49 + 2]: share of shape in
        7 x 7 parts of the patch, and the way to the middle of its shape in units of four patches.
    """
    count, side = len(pool.scenes), pool.regions.shape[-1] // patch
    classes = np.zeros((count, len(LABELS), side * side), np.int64)
    outline = np.zeros((count, side * side, OUTLINE + 2), np.float16)
    for n, scene in enumerate(pool.scenes):
        cells = to_cells(pool.regions[n], patch)
        top = np.where(cells == OUTSIDE, 0, cells).max(1)  # shapes have the highest values
        shape = (top >= 2) & ((cells == top[:, None]).mean(1) >= 0.2)
        shown = np.where(shape, top, cells[:, patch * patch // 2 + patch // 2])
        classes[n] = class_table(scene)[:, shown]
        outline[n, :, :OUTLINE] = shape_shares(pool.regions[n], patch)
        outline[n, :, OUTLINE:] = ways_to_middle(pool.regions[n], patch, shown) * shape[:, None]
    return torch.from_numpy(classes), torch.from_numpy(outline)


def to_cells(regions: np.ndarray, patch: int) -> np.ndarray:
    """[side, side] to [h * w, patch * patch]."""
    side = len(regions) // patch
    return regions.reshape(side, patch, side, patch).transpose(0, 2, 1, 3).reshape(side * side, patch * patch)


def class_table(scene: Scene) -> np.ndarray:
    """Classes of every region value: int64 [5, 256]."""
    kinds = [*UPPER, *LOWER, *SHAPES]
    table = np.zeros((len(LABELS), 256), np.int64)
    table[0, :2] = [1 + kinds.index(name) for name in scene.stuff]
    for i, s in enumerate(scene.shapes):
        looks = kinds.index(s.kind), [*COLOURS].index(s.colour), [*SIZES].index(s.size)
        table[:3, 2 + i] = np.add(looks, 1)
    for order, phrase in enumerate(p for p in caption(scene) if p.regions and min(p.regions) >= 2):
        table[3:, phrase.regions] = [[order + 1], [len(phrase.regions)]]
    return table


def shape_shares(regions: np.ndarray, patch: int) -> np.ndarray:
    """Share of shape in the 7 x 7 parts of each patch: [h * w, 49]."""
    inside = (regions >= 2) & (regions != OUTSIDE)
    small = inside.reshape(len(inside) // 2, 2, -1, 2).mean((1, 3))
    return to_cells(small, patch // 2)


def ways_to_middle(regions: np.ndarray, patch: int, shown: np.ndarray) -> np.ndarray:
    """From each patch to the middle of the region it shows, (y, x) in units of four patches: [h * w, 2]."""
    side = len(regions) // patch
    places = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2) + 0.5
    middles = np.zeros((256, 2))
    for value in np.unique(shown[shown >= 2]):
        middles[value] = np.argwhere(regions == value).mean(0) / patch
    return (middles[shown] - places) / 4


def patch_loss(told: Tensor, classes: Tensor, outlines: Tensor) -> Tensor:
    """Cross-entropy of each class, shape patches counting five times; outline and way to the middle."""
    parts = told.split(HEADS, dim=-1)
    shape = (classes[:, 1] > 0).float()
    weight = (1 + 4 * shape) / (1 + 4 * shape).sum()
    losses = [F.cross_entropy(p.transpose(1, 2), classes[:, i], reduction="none") for i, p in enumerate(parts[:5])]
    shares, ways = outlines.float().split([OUTLINE, 2], dim=-1)
    outline = F.binary_cross_entropy_with_logits(parts[5], shares)
    middle = ((parts[6] - ways) ** 2).sum(-1)
    return ((sum(losses) + middle) * weight).sum() + outline
