"""Frames of reference: the padded square that the LMM saw, and the picture inside it."""

from typing import Any

from torch import Tensor


def crop_to_picture(masks: Tensor, meta_data: dict[str, Any]) -> Tensor:
    """Crops masks that show the padded image to the picture, with the reference's rounding.

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
