"""Pictures, masks and maps as small `data:` URLs: nothing is written to a file that somebody else could ask for."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from flmm.api import bounded
from flmm.evaluation.drawings import outline, shrink

SIDE = 1024  # pixels of a picture on the page
MASK_SIDE = 640
INSIDE, EDGE = 128, 255  # values of a mask's pixels; 0 is outside
GAP = 1  # pixels between small multiples


def url(image: Image.Image, format: str = "PNG", **options: int) -> str:
    """A picture as text that a browser shows."""
    content = io.BytesIO()
    image.save(content, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def picture_url(image: Image.Image, side: int = SIDE) -> str:
    """A photo of at most `side` pixels; small pictures stay as they are, without loss."""
    small = bounded(image, side)
    return url(small, "PNG") if max(small.size) <= 256 else url(small, "JPEG", quality=88)


def mask_url(mask: np.ndarray) -> str:
    """A mask [H, W] with its edge, as values of INSIDE and EDGE."""
    height, width = mask.shape
    scale = min(1.0, MASK_SIDE / max(height, width))
    small = shrink(mask, max(1, round(height * scale)), max(1, round(width * scale)))
    values = small.astype(np.uint8) * INSIDE
    values[outline(small)] = EDGE
    return url(Image.fromarray(values), optimize=1)


def gray_url(values: np.ndarray, stretch: bool = True) -> str:
    """Values [h, w] as gray levels: from their 1st percentile to their 99th, or as they are from 0 to 1."""
    low, high = np.percentile(values, (1, 99)) if stretch else (0.0, 1.0)
    levels = ((values - low) / max(high - low, 1e-12)).clip(0, 1) * 255
    return url(Image.fromarray(levels.round().astype(np.uint8)), optimize=1)


def grid(maps: np.ndarray) -> np.ndarray:
    """Small multiples: maps [L, A, h, w] as one array, layers below each other, each map from 0 to 1."""
    low, high = (extreme(maps, axis=(-2, -1), keepdims=True) for extreme in (np.min, np.max))
    scaled = (maps - low) / np.maximum(high - low, 1e-12)
    padded = np.pad(scaled, ((0, 0), (0, 0), (GAP, 0), (GAP, 0)))
    layers, heads, height, width = padded.shape
    return padded.transpose(0, 2, 1, 3).reshape(layers * height, heads * width)
