"""The mathematics between attention and masks: fold, resize, merge, stack, weigh, crop."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def fold_rows(weights: Tensor, views: list[Tensor], resize_to: tuple[int, int] | None = None) -> list[Tensor]:
    """Lay the columns of attention rows out as pictures.

    Args:
        weights: [A, T, S] attention of T tokens to the whole sequence.
        views: V tensors [h, w] of positions in 0..S-1.
        resize_to: Optional (h, w) to which every view is resized.

    Returns:
        V tensors [A, T, h, w].
    """
    maps = [weights[..., view] for view in views]
    return maps if resize_to is None else [resize_maps(m, resize_to) for m in maps]


def rows_by_phrase(phrase_ids: Tensor) -> list[Tensor]:
    """Find the rows of each phrase: `phrase_ids` [T] -> M tensors of positions in 0..T-1.

    It waits for the device; what is indexed with its result does not, in however many layers.
    """
    ids, device = phrase_ids.tolist(), phrase_ids.device
    rows = [[row for row, own in enumerate(ids) if own == m] for m in range(max(ids) + 1)]
    return [torch.tensor(positions, device=device) for positions in rows]


def merge_rows(maps: Tensor, rows: Sequence[Tensor], merge: Literal["mean", "max"]) -> Tensor:
    """Merge the `rows` of each phrase: [A, T, h, w] -> [A, M, h, w]."""
    phrases = (maps[:, positions] for positions in rows)
    return torch.stack([phrase.mean(1) if merge == "mean" else phrase.amax(1) for phrase in phrases], dim=1)


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [..., h, w] bilinearly in float32 (align_corners=False); return the dtype of `maps`."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    resized = F.interpolate(maps.float().flatten(0, -3)[None], size=size, mode="bilinear")[0]
    return resized.to(maps.dtype).view(*maps.shape[:-2], *size)


def finest_size(views: list[Tensor]) -> tuple[int, int]:
    """Return the grid (h, w) of the view with most tokens."""
    h, w = max((view.shape[-2:] for view in views), key=lambda size: size[0] * size[1])
    return h, w


def stack_maps(attention: list[Tensor], channel_order: Literal["view", "layer"]) -> Tensor:
    """Stack views, layers and heads as channels, in the order that released weights expect.

    Args:
        attention: V tensors [L, A, M, h, w]; coarser ones are resized to the finest grid.
        channel_order: 'view' = (view, layer, head), 'layer' = (layer, view, head).

    Returns:
        [M, C, h, w], C = V·L·A, float32.
    """
    size = finest_size(attention)
    maps = torch.stack([resize_maps(view.float(), size) for view in attention])  # [V, L, A, M, h, w]
    if channel_order == "layer":
        maps = maps.transpose(0, 1)  # [L, V, A, M, h, w]
    return maps.flatten(0, 2).transpose(0, 1).contiguous()


def weigh_layers(hidden: Tensor, layer_weights: Tensor) -> Tensor:
    """Sum hidden states [L, T, D] over layers with softmax(`layer_weights` [L]) -> [T, D]."""
    weights = layer_weights.softmax(0)
    return (hidden.to(weights.dtype) * weights[:, None, None]).sum(0)


def split_by_phrase(embeddings: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """Split [T_total, D] into M tensors [T, D]; `rows` as of `rows_by_phrase`."""
    return [embeddings[positions] for positions in rows]


def crop_to_picture(masks: Tensor, meta_data: dict[str, Any]) -> Tensor:
    """Crop masks of the padded image to the picture, with the reference's rounding.

    Args:
        masks: [M, h, w], any resolution of the padded image. Of a very thin picture one row or column is kept.
        meta_data: `image_shape`, `padded_shape` and `padding` of the sample, in pixels of the LMM's input.

    Returns:
        [M, h', w'], a view of `masks`.
    """
    for dim, side in ((-2, "height"), (-1, "width")):
        size, padded = masks.shape[dim], meta_data["padded_shape"][side]
        before = int(meta_data["padding"][f"before_{side}"] * size / padded)
        extent = max(1, int(meta_data["image_shape"][side] * size / padded + 0.5))
        masks = masks.narrow(dim, before, min(extent, size - before))
    return masks
