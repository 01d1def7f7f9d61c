"""The ways a region of a picture is written in annotation files, as boolean masks or COCO's run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from flmm.masks import as_shares, decode_mask, run_length_problem

RLE = dict[str, Any]


def as_rle(region: Any, size: tuple[int, int] | None = None) -> RLE:
    """Return a region as COCO's compressed run lengths, `counts` as text.

    Args:
        region: Run lengths, compressed or as numbers, {"size": [height, width], "counts": ...}; or a polygon
            [x0, y0, x1, y1, ...] or [[x, y], ...]; or a list of polygons.
        size: (height, width) of the picture; needed for polygons, compared with run lengths.

    Raises:
        ValueError: Another format, another size, runs that do not fill the picture, a polygon of less than three
            points, with a coordinate that is no number, or in shares of the picture's sides.
    """
    if isinstance(region, Mapping):
        return _checked_runs(region, size)
    if size is None:
        raise ValueError("polygons need the size of their picture")
    polygons = [_flat(polygon) for polygon in _polygons(region)]
    _check_pixels([value for polygon in polygons for value in polygon], "polygon", region)
    parts = coco.frPyObjects(polygons, *size)
    return _text(coco.merge(parts))


def as_mask(region: Any, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return a region as a boolean mask [H, W]; see `as_rle`."""
    return decode_mask(as_rle(region, size))


def box_mask(box: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a box x0, y0, x1, y1 as a mask [H, W], rounded to whole pixels and cut at the picture's border.

    Raises:
        ValueError: When it is no box, or reversed.
    """
    array = _numbers(box)
    if array.shape != (4,):
        raise ValueError(f"box {box!r}: write x0, y0, x1, y1 in pixels")
    _check_pixels(array, "box", box)
    x0, y0, x1, y1 = (round(float(side)) for side in array)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"box {box!r} has no pixel: write x0, y0, x1, y1 with x0 < x1 and y0 < y1")
    mask = np.zeros(size, dtype=bool)
    mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    return mask


def _check_pixels(values: Any, what: str, region: Any) -> None:
    if as_shares(values):
        raise ValueError(f"{what} {str(region)[:60]} lies within 0 and 1: write pixels, not shares of the sides")


def _text(rle: Mapping[str, Any]) -> RLE:
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def _checked_runs(region: Mapping[str, Any], size: tuple[int, int] | None) -> RLE:
    height, width = size or (_size(region["size"]) if "size" in region else (0, 0))
    if problem := run_length_problem(region, height, width):
        raise ValueError(problem)
    counts = region["counts"]
    if isinstance(counts, list):
        return _text(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width))
    return _text({"size": [height, width], "counts": counts})


def _size(size: Any) -> tuple[int, int]:
    array = _numbers(size)
    if array.shape != (2,) or (array < 1).any() or (array != array.round()).any():
        raise ValueError(f"`size` is {size!r}: write [height, width]")
    return int(array[0]), int(array[1])


def _polygons(region: Any) -> list[Any]:
    """Return a polygon, or several, as a list of polygons."""
    if not isinstance(region, Sequence) or isinstance(region, str | bytes) or not len(region):
        raise ValueError(f"{str(region)[:60]!r} is neither run lengths nor polygons")
    first = region[0]
    if isinstance(first, int | float):
        return [region]
    pairs = all(isinstance(point, Sequence) and len(point) == 2 for point in region)
    return [region] if pairs and isinstance(first[0], int | float) else list(region)


def _flat(polygon: Any) -> list[float]:
    array = _numbers(polygon)
    flat = array.reshape(-1)
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 2) or len(flat) < 6 or len(flat) % 2:
        raise ValueError(f"a polygon needs three points or more, x and y each, this one is {str(polygon)[:60]}")
    return flat.tolist()


def _numbers(values: Any) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(values)[:60]} are no numbers") from error
    if not np.isfinite(array).all() or (np.abs(array) > 1e9).any():
        raise ValueError(f"{str(values)[:60]} holds numbers that are no pixels")
    return array
