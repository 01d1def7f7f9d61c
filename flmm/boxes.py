"""Boxes of masks: tight ones for metrics and prompts, and those of the objects for users."""

import numpy as np
import torch
from torch import Tensor

SPECK = 0.01


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Find the tight boxes of boolean masks.

    Args:
        masks: [M, H, W].

    Returns:
        [M, 4] float x0, y0, x1, y1 in pixels, x1 and y1 one past the last pixel; zeros for an empty mask.
    """
    (x0, x1), (y0, y1) = _ends(masks.any(1)), _ends(masks.any(2))
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _ends(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First True and one past the last one of [M, N], each [M]; zeros where there is none."""
    first, size = occupied.int().argmax(1), occupied.shape[1]
    return first, (size - occupied.flip(1).int().argmax(1)) * occupied.any(1)


def object_boxes(masks: np.ndarray, speck: float = SPECK) -> np.ndarray:
    """Find the boxes of what masks show, without specks: a few stray pixels would stretch a tight box.

    Args:
        masks: [M, H, W] bool.
        speck: A component (pixels that touch, also at corners) of less than this share of its mask is passed over. A
            mask that has only such components keeps them all.

    Returns:
        [M, 4] float32 x0, y0, x1, y1 in pixels, x1 and y1 one past the last pixel; zeros for an empty mask.
    """
    return np.array([_object_box(mask, speck) for mask in masks], dtype=np.float32).reshape(-1, 4)


def _object_box(mask: np.ndarray, speck: float) -> np.ndarray:
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    components = stats[1:]  # the first is what lies outside
    if not len(components):
        return np.zeros(4)
    areas = components[:, cv2.CC_STAT_AREA]
    large = areas >= speck * areas.sum()
    kept = components[large] if large.any() else components
    corner, size = kept[:, :2], kept[:, 2:4]
    return np.concatenate([corner.min(0), (corner + size).max(0)])
