"""The truth about the shapes pictures, against which the pictures of the docs are checked before they are shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flmm.config import annotation_files
from flmm.datasets.captions import Caption, read_captions, segment_map
from flmm.utils import compute_mask_IoU


def narratives(root: Path) -> dict[str, list[Caption]]:
    """The texts about each validation picture; the first one is its caption in reading order."""
    found: dict[str, list[Caption]] = defaultdict(list)
    for caption in read_captions(*annotation_files(root, "png_val")):
        found[caption.file_name].append(caption)
    return found


def segments(root: Path, caption: Caption) -> np.ndarray:
    """The segment of each pixel [H, W]."""
    return segment_map(root / "annotations/panoptic_val2017" / caption.segm_file)


def described(caption: Caption) -> list[Sequence[int]]:
    """The segments of each phrase of a caption."""
    return [segment.ids for segment in caption.segments if segment.is_phrase]


def same(text: str, other: str) -> bool:
    """Whether two texts are the same but for the full stop."""
    return text.rstrip(" .") == other.rstrip(" .")


def masks_right(grounding: Any, ids: np.ndarray, phrases: Iterable[Sequence[int]], least: float) -> bool:
    """Whether the mask of every phrase reaches an IoU with its segments."""
    truth = np.stack([np.isin(ids, phrase) for phrase in phrases])
    masks, target = (torch.from_numpy(one).flatten(1).int() for one in (grounding.masks, truth))
    return bool((compute_mask_IoU(masks, target)[2] >= least).all())
