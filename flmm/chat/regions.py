"""Regions of a picture, given in pixels, on the grid of cells in which the LMM sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

Box = Sequence[float]
FILLS = ("mean", "grey", "blur")


def region_mask(image: Image.Image, box: Box | None = None, mask: np.ndarray | None = None) -> np.ndarray:
    """Return a region of a picture as a mask.

    Args:
        image: The picture, W x H pixels.
        box: x0, y0, x1, y1 in pixels; what lies outside the picture is cut off.
        mask: [H, W] bool, instead of a box.

    Returns:
        [H, W] bool, with at least one pixel.

    Raises:
        ValueError: For both or none of them, a region that is empty or outside the picture.
    """
    size = f"the picture of {image.width} x {image.height} pixels"
    if (box is None) == (mask is None):
        raise ValueError("give a region: either box=(x0, y0, x1, y1) in pixels or mask=[H, W] of bool")
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != (image.height, image.width):
            raise ValueError(f"the mask is {list(mask.shape)}, but must be [{image.height}, {image.width}] as {size}")
        if not mask.any():
            raise ValueError("the mask is empty: it needs at least one pixel")
        return mask
    x0, y0, x1, y1 = checked_box(box)
    left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    right, bottom = min(image.width, int(np.ceil(x1))), min(image.height, int(np.ceil(y1)))
    if left >= right or top >= bottom:
        raise ValueError(f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} lies outside {size}: give x0, y0, x1, y1 inside it")
    region = np.zeros((image.height, image.width), dtype=bool)
    region[top:bottom, left:right] = True
    return region


def checked_box(box: Box | None) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a box; ValueError when its sides are not positive or it has not four numbers."""
    try:
        values = [float(value) for value in box] if box is not None else []
    except (TypeError, ValueError):  # letters, or no sequence
        values = []
    if len(values) != 4 or not np.isfinite(values).all():
        raise ValueError(f"the box {box!r} must be four numbers: x0, y0, x1, y1 in pixels")
    x0, y0, x1, y1 = values
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} is empty: x1 must exceed x0 and y1 must exceed y0")
    return x0, y0, x1, y1


def cell_weights(mask: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Return the share of each of h x w cells that a mask [H, W] covers: [h, w], 0..1."""
    return F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], size)[0]


def hide(image: Image.Image, mask: np.ndarray, fill: str = "mean") -> Image.Image:
    """Return the picture without a region.

    Args:
        image: The picture.
        mask: [H, W] bool, the region.
        fill: 'mean' (the mean color of the picture), 'grey' or 'blur' (by a tenth of the longer side).
    """
    if fill not in FILLS:
        raise ValueError(f"fill={fill!r}, but a region can be hidden by {', '.join(FILLS)} only")
    pixels = np.asarray(image)
    if fill == "blur":
        cover = np.asarray(image.filter(ImageFilter.GaussianBlur(max(image.size) / 10)))
    else:
        color = pixels.reshape(-1, 3).mean(0).round() if fill == "mean" else (128, 128, 128)
        cover = np.broadcast_to(np.asarray(color, dtype=np.uint8), pixels.shape)
    return Image.fromarray(np.where(mask[..., None], cover, pixels))
