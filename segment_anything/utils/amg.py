"""Bookkeeping of automatic mask generation: grids, crops, boxes, run lengths, small regions."""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class MaskData:
    """Columns of equal length (tensors, arrays, lists) about the same masks, filtered and joined as one."""

    def __init__(self, **columns: Any) -> None:
        self._columns: dict[str, Any] = {}
        for name, column in columns.items():
            self[name] = column

    def __setitem__(self, key: str, item: Any) -> None:
        if not isinstance(item, (list, np.ndarray, Tensor)):
            raise TypeError(f"column {key!r} must be a list, an array or a tensor, got {type(item).__name__}")
        self._columns[key] = item

    def __getitem__(self, key: str) -> Any:
        return self._columns[key]

    def __delitem__(self, key: str) -> None:
        del self._columns[key]

    def items(self) -> ItemsView[str, Any]:
        """Names and columns."""
        return self._columns.items()

    def filter(self, keep: Tensor) -> None:
        """Keep the rows of a bool mask, or the rows of an index in its order."""
        rows = keep.nonzero().flatten() if keep.dtype == torch.bool else keep
        for name, column in self._columns.items():
            if isinstance(column, Tensor):
                self._columns[name] = column[rows.to(column.device)]
            elif isinstance(column, np.ndarray):
                self._columns[name] = column[rows.cpu().numpy()]
            else:
                self._columns[name] = [column[row] for row in rows.tolist()]

    def cat(self, new_stats: MaskData) -> None:
        """Append the rows of another table; an empty one takes over its columns."""
        for name, column in new_stats.items():
            if name not in self._columns:
                self._columns[name] = list(column) if isinstance(column, list) else column
            elif isinstance(column, Tensor):
                self._columns[name] = torch.cat([self._columns[name], column])
            elif isinstance(column, np.ndarray):
                self._columns[name] = np.concatenate([self._columns[name], column])
            else:
                self._columns[name] = self._columns[name] + column

    def to_numpy(self) -> None:
        """Turn tensors into arrays."""
        for name, column in self._columns.items():
            if isinstance(column, Tensor):
                self._columns[name] = column.detach().cpu().numpy()


def batch_iterator(batch_size: int, *args: Any) -> Iterator[list[Any]]:
    """Cut sequences of equal length into batches of at most `batch_size`."""
    lengths = {len(arg) for arg in args}
    if len(lengths) != 1:
        raise ValueError(f"batches need sequences of one length, got {[len(arg) for arg in args]}")
    for start in range(0, lengths.pop(), batch_size):
        yield [arg[start : start + batch_size] for arg in args]


def build_point_grid(n_per_side: int) -> np.ndarray:
    """Centres of an n x n grid over the unit square, row by row: [n * n, 2] (x, y)."""
    half = 1 / (2 * n_per_side)
    centres = np.linspace(half, 1 - half, n_per_side)
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


def build_all_layer_point_grids(n_per_side: int, n_layers: int, scale_per_layer: int) -> list[np.ndarray]:
    """A grid for the image and one per layer of crops, each sparser by `scale_per_layer`."""
    return [build_point_grid(int(n_per_side / scale_per_layer**layer)) for layer in range(n_layers + 1)]


def generate_crop_boxes(
    im_size: tuple[int, ...], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """Boxes of the image and of overlapping crops, 2^i x 2^i of them in layer i.

    Args:
        im_size: (H, W) of the image.
        n_layers: layers of crops beside the image itself.
        overlap_ratio: overlap in the first layer over the image's short side; halved from layer to layer.

    Returns:
        The boxes xyxy, and the layer of each.
    """
    height, width = im_size[:2]
    boxes, layers = [[0, 0, width, height]], [0]
    for layer in range(1, n_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / per_side))
        crop_h, crop_w = (math.ceil((overlap * (per_side - 1) + side) / per_side) for side in (height, width))
        for column, row in product(range(per_side), repeat=2):
            x0, y0 = (crop_w - overlap) * column, (crop_h - overlap) * row
            boxes.append([x0, y0, min(x0 + crop_w, width), min(y0 + crop_h, height)])
            layers.append(layer)
    return boxes, layers


def is_box_near_crop_edge(boxes: Tensor, crop_box: list[int], orig_box: list[int], atol: float = 20.0) -> Tensor:
    """Tell which boxes [N, 4] touch, within `atol` pixels, an edge of the crop that is no edge of the image.

    An object there is probably cut off, and another crop sees it whole.
    """
    boxes = uncrop_boxes_xyxy(boxes, crop_box).float()
    near_crop, near_image = (
        (boxes - torch.tensor(edges, dtype=torch.float32, device=boxes.device)).abs() <= atol
        for edges in (crop_box, orig_box)
    )
    return (near_crop & ~near_image).any(dim=1)


def uncrop_boxes_xyxy(boxes: Tensor, crop_box: list[int]) -> Tensor:
    """Bring boxes [..., 4] from the crop to the image."""
    return boxes + torch.tensor(crop_box[:2] * 2, device=boxes.device)


def uncrop_points(points: Tensor, crop_box: list[int]) -> Tensor:
    """Bring points [..., 2] from the crop to the image."""
    return points + torch.tensor(crop_box[:2], device=points.device)


def uncrop_masks(masks: Tensor, crop_box: list[int], orig_h: int, orig_w: int) -> Tensor:
    """Bring masks [..., h, w] from the crop to the image, [..., orig_h, orig_w]."""
    x0, y0, x1, y1 = crop_box
    return functional.pad(masks, (x0, orig_w - x1, y0, orig_h - y1), value=0)


def box_xyxy_to_xywh(box_xyxy: Any) -> Any:
    """Turn one box (tensor or array) from corners to corner and size."""
    x0, y0, x1, y1 = box_xyxy
    stack = torch.stack if isinstance(box_xyxy, Tensor) else np.stack
    return stack([x0, y0, x1 - x0, y1 - y0])


def batched_mask_to_box(masks: Tensor) -> Tensor:
    """Boxes of bool masks [..., H, W]: the outermost pixels as xyxy [..., 4], zeros for an empty mask."""
    columns, rows = masks.any(dim=-2), masks.any(dim=-1)
    edges = [_first(columns), _first(rows), _last(columns), _last(rows)]
    return torch.stack(edges, dim=-1) * columns.any(dim=-1, keepdim=True)


def _first(hits: Tensor) -> Tensor:
    return hits.to(torch.uint8).argmax(dim=-1) if hits.numel() else hits.new_zeros(hits.shape[:-1], dtype=torch.long)


def _last(hits: Tensor) -> Tensor:
    return hits.shape[-1] - 1 - _first(hits.flip(-1))


def calculate_stability_score(masks: Tensor, mask_threshold: float, threshold_offset: float) -> Tensor:
    """IoU of logits [..., H, W] cut at a threshold raised and lowered by `threshold_offset`: [...].

    The higher cut lies inside the lower one, so this is a ratio of areas; NaN where both cuts are empty.
    """
    inner = (masks > mask_threshold + threshold_offset).sum((-2, -1))
    outer = (masks > mask_threshold - threshold_offset).sum((-2, -1))
    return inner / outer


def mask_to_rle_pytorch(tensor: Tensor) -> list[dict[str, Any]]:
    """Encode bool masks [B, H, W] as uncompressed COCO run lengths: column by column, zeros first."""
    count, height, width = tensor.shape
    pixels = tensor.transpose(1, 2).flatten(1)
    # a run starts where a pixel differs from the one before; before the first there is a zero
    starts = pixels ^ functional.pad(pixels[:, :-1], (1, 0))
    mask_index, position = (index.cpu().numpy() for index in starts.nonzero(as_tuple=True))
    positions = np.split(position, np.searchsorted(mask_index, np.arange(1, count)))
    return [
        {"size": [height, width], "counts": np.diff(ends, prepend=0, append=height * width).tolist()}
        for ends in positions[:count]
    ]


def rle_to_mask(rle: dict[str, Any]) -> np.ndarray:
    """Decode uncompressed run lengths to a bool mask [H, W]."""
    height, width = rle["size"]
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(width, height).T


def area_from_rle(rle: dict[str, Any]) -> int:
    """Pixels of a mask in uncompressed run lengths."""
    return sum(rle["counts"][1::2])


def coco_encode_rle(uncompressed_rle: dict[str, Any]) -> dict[str, Any]:
    """Compress run lengths to COCO's string, as JSON stores it."""
    from pycocotools import mask as coco_mask

    rle = coco_mask.frPyObjects(uncompressed_rle, *uncompressed_rle["size"])
    return {**rle, "counts": rle["counts"].decode("ascii")}


def remove_small_regions(mask: np.ndarray, area_thresh: float, mode: str) -> tuple[np.ndarray, bool]:
    """Fill small holes of a bool mask [H, W] or drop its small islands (8-connected).

    Args:
        mask: the mask.
        area_thresh: regions of fewer pixels are small.
        mode: "holes" or "islands". Of islands that are all small, the largest stays.

    Returns:
        The mask, and whether it was changed.

    Raises:
        ValueError: for another mode.
    """
    import cv2

    if mode not in ("holes", "islands"):
        raise ValueError(f"mode must be 'holes' or 'islands', got {mode!r}")
    looked_at = mask if mode == "islands" else ~mask
    _, regions, stats, _ = cv2.connectedComponentsWithStats(looked_at.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # region 0 is what was not looked at
    small = areas < area_thresh
    if not small.any():
        return mask, False
    if mode == "islands" and small.all():
        small[areas.argmax()] = False
    is_small = np.concatenate([[False], small])[regions]
    return (mask | is_small if mode == "holes" else mask & ~is_small), True
