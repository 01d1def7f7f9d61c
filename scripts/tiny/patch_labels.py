"""What each image patch shows: the labels of the tiny vision tower's first training, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scene_pool import OUTSIDE, WORKERS, ScenePool
from torch import Tensor
from torch.nn import functional as F

from flmm.datasets.shapes.captions import caption
from flmm.datasets.shapes.expressions import PLACES, place_among
from flmm.datasets.shapes.glyphs import GLYPHS
from flmm.datasets.shapes.scene import COLORS, LOWER, SHAPES, SIGNS, SIZES, UPPER, Scene

LABELS = {  # of a patch, with the number of values each can have
    "kind": 1 + len(UPPER) + len(LOWER) + len(SHAPES),
    "color": 1 + len(COLORS),
    "size": 1 + len(SIZES),
    "order": 1 + 6,
    "number": 1 + 3,
    "sign": 1 + len(SIGNS),
}
ALIKE = {"kind": (0,), "color": (1,), "size": (2,), "kind and color": (0, 1), "shape": ()}  # looks that are shared
RELATIONS = {  # of a shape to others: its place among those alike, how many look so, and its neighbors' looks
    **{f"place by {name}": len(PLACES) for name in ALIKE},
    **{f"number by {name}": 1 + 6 for name in ("kind", "color")},
    **{f"{look} {side}": 1 + count for side in ("left", "right") for look, count in (("kind", 5), ("color", 7))},
}
Parts = Sequence[Tensor]
UNKNOWN = -100  # ignored by the loss
OUTLINE = 49  # 7 x 7 parts of a patch
GLYPH = 35  # cells of a sign
SHAPES_AND_WAYS = [OUTLINE, 2, GLYPH, 2]  # outline, way to its middle, the sign's glyph, way to its middle
HEADS = [*LABELS.values(), *SHAPES_AND_WAYS, *RELATIONS.values()]


@dataclass(frozen=True)
class Labeled:
    """Pictures, uint8 [N, side, side, 3], and what their patches show, see `patch_labels`, on one device."""

    images: Tensor
    classes: Tensor
    outlines: Tensor

    @classmethod
    def of(cls, pool: ScenePool, patch: int, device: torch.device) -> Labeled:
        """Label all pictures of a pool."""
        return cls(*(part.to(device) for part in (torch.from_numpy(pool.images), *patch_labels(pool, patch))))


def patch_labels(pool: ScenePool, patch: int, workers: int = WORKERS) -> tuple[Tensor, Tensor]:
    """What each patch shows; a fifth of a patch is enough for a shape.

    Returns:
        Classes in the order of `LABELS`, then of `RELATIONS`, int8 [N, 6 + 11, h * w]: kind, color, size, place of its
        phrase in the caption, how many shapes the phrase has, the sign, and how the shape stands to others.
        Outline, float16 [N, h * w, 49 + 4]: share of shape in 7 x 7 parts of the patch, the way to the middle of its
        shape in units of four patches, and to its sign.
    """
    parts = [pool.part(slice(start, start + 500)) for start in range(0, len(pool.scenes), 500)]
    with ProcessPoolExecutor(workers) as executor:
        classes, outlines = zip(*executor.map(partial(_label, patch=patch), parts), strict=True)
    return torch.from_numpy(np.concatenate(classes)), torch.from_numpy(np.concatenate(outlines))


def _label(pool: ScenePool, patch: int) -> tuple[np.ndarray, np.ndarray]:
    count, side = len(pool.scenes), pool.regions.shape[-1] // patch
    classes = np.zeros((count, len(LABELS) + len(RELATIONS), side * side), np.int8)
    outline = np.zeros((count, side * side, OUTLINE + 4), np.float16)
    for n, scene in enumerate(pool.scenes):
        cells = to_cells(pool.regions[n], patch)
        top = np.where(cells == OUTSIDE, 0, cells).max(1)  # shapes have the highest values
        shape = (top >= 2) & ((cells == top[:, None]).mean(1) >= 0.2)
        shown = np.where(shape, top, cells[:, patch * patch // 2 + patch // 2])
        classes[n] = class_table(scene)[:, shown]
        if pool.shown[n] < 0:
            classes[n, 5] = UNKNOWN
        else:
            classes[n, 2:5] = classes[n, len(LABELS) :] = UNKNOWN  # only whole pictures show these
            classes[n, 5] = sign_cells(pool.signs[n], scene.shapes[pool.shown[n]].sign, side, patch)
        outline[n, :, :OUTLINE] = shape_shares(pool.regions[n], patch)
        if classes[n, 5].max() > 0:
            outline[n, :, OUTLINE + 2 :] = ways_to(pool.signs[n][[1, 0]] / 2 + pool.signs[n][[3, 2]] / 2, side, patch)
        outline[n, :, OUTLINE : OUTLINE + 2] = ways_to_middle(pool.regions[n], patch, shown) * shape[:, None]
    return classes, outline


def sign_cells(box: np.ndarray, sign: str, side: int, patch: int) -> np.ndarray:
    """Class of the sign in each patch that holds a quarter of it or more: int8 [side * side]."""
    found = np.zeros((side, side), np.int8)
    if not sign or box[2] <= box[0]:
        return found.flatten()
    starts = np.arange(side) * patch
    across = (np.minimum(starts + patch, box[2]) - np.maximum(starts, box[0])).clip(0)
    down = (np.minimum(starts + patch, box[3]) - np.maximum(starts, box[1])).clip(0)
    share = down[:, None] * across / ((box[2] - box[0]) * (box[3] - box[1]))
    found[share >= 0.25 * share.max()] = 1 + SIGNS.index(sign)
    return found.flatten()


def ways_to(middle: np.ndarray, side: int, patch: int) -> np.ndarray:
    """From each patch to a point (y, x) in pixels, in patches: [side * side, 2]."""
    places = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2) + 0.5
    return middle / patch - places


def to_cells(regions: np.ndarray, patch: int) -> np.ndarray:
    """[side, side] to [h * w, patch * patch]."""
    side = len(regions) // patch
    return regions.reshape(side, patch, side, patch).transpose(0, 2, 1, 3).reshape(side * side, patch * patch)


def class_table(scene: Scene) -> np.ndarray:
    """Classes of every region value: int8 [6 + 11, 256]."""
    kinds = [*UPPER, *LOWER, *SHAPES]
    table = np.zeros((len(LABELS) + len(RELATIONS), 256), np.int8)
    table[0, :2] = [1 + kinds.index(name) for name in scene.stuff]
    for i, s in enumerate(scene.shapes):
        looks = kinds.index(s.kind), [*COLORS].index(s.color), [*SIZES].index(s.size)
        table[:3, 2 + i] = np.add(looks, 1)
    for order, phrase in enumerate(p for p in caption(scene) if p.regions and min(p.regions) >= 2):
        table[3:5, phrase.regions] = [[order + 1], [len(phrase.regions)]]
    for i in range(len(scene.shapes)):
        table[len(LABELS) :, 2 + i] = relations(scene, i)
    return table


def relations(scene: Scene, index: int) -> list[int]:
    """Classes of shape `index` in the order of `RELATIONS`."""
    looks = scene.shapes[index].looks
    rivals = {
        name: [i for i, s in enumerate(scene.shapes) if all(s.looks[k] == looks[k] for k in shared)]
        for name, shared in ALIKE.items()
    }
    found = [PLACES.index(place_among(scene, index, group)) for group in rivals.values()]
    found += [len(rivals["kind"]), len(rivals["color"])]
    members = scene.members(scene.shapes[index].band)
    for place in (members.index(index) - 1, members.index(index) + 1):
        if 0 <= place < len(members):
            kind, color, _ = scene.shapes[members[place]].looks
            found += [1 + SHAPES.index(kind), 1 + [*COLORS].index(color)]
        else:
            found += [0, 0]
    return found


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


def split_heads(told: Tensor) -> tuple[Parts, Parts, Parts]:
    """Take apart what the head says [N, h * w, sum of `HEADS`]: logits of `LABELS`, `SHAPES_AND_WAYS`, `RELATIONS`."""
    parts = told.split(HEADS, dim=-1)
    return parts[: len(LABELS)], parts[len(LABELS) : -len(RELATIONS)], parts[-len(RELATIONS) :]


def is_related(relations: Tensor) -> Tensor:
    """Tell which patches [N, h * w] show a shape of a whole picture, by their classes [N, 11, h * w] of `RELATIONS`."""
    return relations[:, len(ALIKE)] > 0  # "number by kind" is 0 where no shape is


def patch_loss(told: Tensor, classes: Tensor, outlines: Tensor) -> Tensor:
    """Cross-entropy of each class, shape patches counting five times, signs 25; outline, ways to middles, relations."""
    (labels, drawn, related), classes = split_heads(told), classes.long()
    shape = (classes[:, 1] > 0).float()
    weight = 1 + 4 * shape
    weights = [weight / weight.sum()] * 5
    sign = (classes[:, 5] >= 0) * (1 + 24.0 * (classes[:, 5] > 0))
    weights.append(3 * sign / sign.sum().clamp(min=1))
    losses = [
        (F.cross_entropy(part.transpose(1, 2), classes[:, i], ignore_index=UNKNOWN, reduction="none") * w).sum()
        for i, (part, w) in enumerate(zip(labels, weights, strict=True))
    ]
    shares, ways, sign_ways = outlines.float().split([OUTLINE, 2, 2], dim=-1)
    told_shares, told_ways, glyph, told_sign_ways = drawn
    outline = F.binary_cross_entropy_with_logits(told_shares, shares)
    middle = ((told_ways - ways) ** 2).sum(-1)
    signs = sign_loss(glyph, told_sign_ways, classes[:, 5], sign_ways)
    relations = relation_loss(related, classes[:, len(LABELS) :])
    return sum(losses) + (middle * weights[0]).sum() + outline + signs + relations


def relation_loss(parts: Parts, classes: Tensor) -> Tensor:
    """What the patches of shapes say about other shapes."""
    shown = is_related(classes)
    if not shown.any():
        return sum(part.sum() for part in parts) * 0
    return 0.3 * sum(F.cross_entropy(part[shown], classes[:, i][shown]) for i, part in enumerate(parts))


def sign_loss(cells: Tensor, told_ways: Tensor, signs: Tensor, ways: Tensor) -> Tensor:
    """The cells of the sign's glyph and the way to its middle, said by the patches that show it."""
    shown = signs > 0
    if not shown.any():
        return cells.sum() * 0
    true = _GLYPHS.to(signs.device)[signs[shown] - 1]
    return 3 * F.binary_cross_entropy_with_logits(cells[shown], true) + ((told_ways[shown] - ways[shown]) ** 2).mean()


def label_words() -> list[list[str]]:
    """The word for each class of kind, color, size and sign; class 0 has none."""
    return [[*UPPER, *LOWER, *SHAPES], [*COLORS], [*SIZES], [sign.lower() for sign in SIGNS]]


_GLYPHS = torch.tensor([[mark == "#" for row in GLYPHS[sign] for mark in row] for sign in SIGNS], dtype=torch.float32)
