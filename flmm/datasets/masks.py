"""Ground-truth masks: their three frames, and what is refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F


def frame_masks(masks: torch.Tensor, meta: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Ground truth in its three frames: as annotated, as the picture was resized, and with the padding.

    Args:
        masks: [M, H, W].
        meta: `image_shape`, `padded_shape`, `padding` of the processed picture.

    Returns:
        `gt_masks` [M, H, W], `masks` [M, h, w] resized by nearest, `padded_masks` [M, padded h, padded w].
    """
    shape, padded, before = meta["image_shape"], meta["padded_shape"], meta["padding"]
    resized = F.interpolate(masks[None], size=(shape["height"], shape["width"]))[0]
    frame = masks.new_zeros(len(masks), padded["height"], padded["width"])
    top, left = before["before_height"], before["before_width"]
    frame[:, top : top + shape["height"], left : left + shape["width"]] = resized
    return {"masks": resized, "padded_masks": frame, "gt_masks": masks}


def check_masks(masks: torch.Tensor, names: Sequence[str], source: str) -> None:
    """Refuse ground truth with an empty mask; `names` are the M phrases, `source` the file or item."""
    empty = [repr(name) for name, mask in zip(names, masks, strict=True) if not mask.any()]
    if empty:
        raise ValueError(
            f"{source}: the ground-truth mask of {', '.join(empty)} is empty ({len(empty)} of {len(names)} "
            "phrases). Correct the annotation, or set allow_empty_masks=True to train on it all the same"
        )
