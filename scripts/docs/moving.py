"""Writes moving pictures that stay small enough for a README."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flmm.checkpoint import part_name, publish

Frame = tuple[Image.Image, int]  # a picture and how many milliseconds it stays
MOST_BYTES = 2_000_000


def save_animation(frames: Sequence[Frame], path: Path, most: int = MOST_BYTES) -> int:
    """Writes a moving picture, as sharp as fits into a size; returns its bytes.

    Raises:
        ValueError: When there is no frame, or it does not fit.
    """
    if not frames:
        raise ValueError("nothing was recorded")
    if path.suffix not in (".webp", ".gif"):
        raise ValueError(f"cannot write a moving picture to {path}: end it in .webp or .gif")
    for scale in (1.0, 0.8, 0.65, 0.5):
        content = encoded(frames, scale, path.suffix)
        if len(content) <= most:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = part_name(path)
            part.write_bytes(content)
            publish(part, path)
            return len(content)
    raise ValueError(f"{len(frames)} frames take {len(content):,} bytes at half their size, over {most:,}: record less")


def encoded(frames: Sequence[Frame], scale: float, suffix: str) -> bytes:
    """The bytes of a moving picture that repeats for ever."""
    pictures = [
        image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS) for image, _ in frames
    ]
    if suffix == ".gif":
        pictures = one_palette(pictures)
    content = io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": [time for _, time in frames], "loop": 0}
    pictures[0].save(content, suffix[1:], quality=82, method=4, **options)
    return content.getvalue()


def one_palette(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The pictures with 255 colors that they share, so that a frame holds what has changed only."""
    found, counts = np.unique(np.concatenate([seen_colors(one) for one in pictures]), axis=0, return_counts=True)
    weights = np.ceil(np.sqrt(counts)).astype(int)  # else a textured background takes all colors
    palette = Image.fromarray(np.repeat(found, weights, axis=0)[None].astype(np.uint8)).quantize(255)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def seen_colors(picture: Image.Image) -> np.ndarray:
    """Every fourth pixel of a picture: [N, 3], in steps of four."""
    return np.asarray(picture)[::2, ::2].reshape(-1, 3) // 4 * 4 + 2
