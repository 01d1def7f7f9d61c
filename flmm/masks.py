"""Masks as arguments, and as COCO's polygons and run lengths: encode, decode, check."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from pycocotools import mask as coco
from torch import Tensor

ADVICE = "write polygons [[x, y, x, y, x, y, ...], ...] or run lengths {'size': [height, width], 'counts': ...}"


def as_masks(masks: Any, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """Make a boolean array of masks that a user gives.

    Args:
        masks: Array or tensor of the shape, of bool, or of any numbers with at most two values, 0 and 1 or 0 and 255.
        shape: (M, H, W) that it must have.
        name: Names the argument in errors.

    Raises:
        ValueError: For another shape, or other values.
    """
    array = np.asarray(masks.detach().cpu() if isinstance(masks, Tensor) else masks)
    if array.shape != tuple(shape):
        raise ValueError(
            f"{name} are {array.shape}, but there are {shape[0]} phrases in a picture of {shape[1]} x {shape[2]} "
            f"(height x width): give masks of shape {tuple(shape)}"
        )
    if array.dtype == bool:
        return array
    values = np.unique(array) if array.dtype.kind in "uif" else array.ravel()[:1]
    if set(values.tolist()) <= {0, 1} or set(values.tolist()) <= {0, 255}:
        return array > 0
    raise ValueError(
        f"{name} hold {array.dtype} values such as {values[:4].tolist()}: masks must be bool, or 0 and 1, or 0 and 255"
    )


def encode_mask(mask: Tensor | np.ndarray) -> dict[str, Any]:
    """COCO's compressed RLE of a boolean mask [H, W], as plain JSON values."""
    array = mask.cpu().numpy() if isinstance(mask, Tensor) else mask
    rle = coco.encode(np.asfortranarray(array.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """Boolean mask [H, W] of COCO's compressed RLE.

    Raises:
        ValueError: When the runs do not fill the size.
    """
    if problem := run_length_problem(rle, *rle["size"]):
        raise ValueError(problem)
    return coco.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")}).astype(bool)


def segmentation_problem(segmentation: Any, height: int, width: int) -> str:
    """Say what is wrong with a COCO segmentation of a picture of that size; empty when nothing is.

    pycocotools checks none of this: runs that are too short leave pixels at whatever was in memory, and a size that is
    swapped scrambles the mask.
    """
    if isinstance(segmentation, Mapping):
        return run_length_problem(segmentation, height, width)
    if not isinstance(segmentation, list):
        return f"its segmentation is {_short(segmentation)}: {ADVICE}"
    if problem := next((problem for polygon in segmentation if (problem := _polygon_problem(polygon))), ""):
        return problem
    if as_shares([value for polygon in segmentation for value in polygon]):
        return f"its polygons {_short(segmentation)} lie within 0 and 1: write pixels, not shares of the sides"
    return ""


def has_pixels(segmentation: Any, height: int, width: int) -> bool:
    """Tell whether a sound COCO segmentation makes a mask that is not empty."""
    if isinstance(segmentation, Mapping):
        return int(_runs(segmentation["counts"])[1::2].sum()) > 0
    polygons = [[float(value) for value in p] for p in segmentation if len(p) >= 6 and len(p) % 2 == 0]
    return bool(polygons) and bool(coco.area(coco.frPyObjects(polygons, height, width)).any())


def run_length_problem(rle: Mapping[str, Any], height: int, width: int) -> str:
    """Say what is wrong with run lengths of a mask of that size; empty when nothing is."""
    if absent := {"size", "counts"} - set(rle):
        return f"its run lengths have no {' and no '.join(sorted(absent))}: {ADVICE}"
    size = rle["size"]
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        swapped = " (written as [width, height]?)" if size == [width, height] else ""
        frame = f"[{height}, {width}] (height, width)"
        return f"its run lengths are of size {_short(size)}, but the picture is {frame}{swapped}"
    try:
        runs = _runs(rle["counts"])
    except ValueError as error:
        return f"its run lengths cannot be decoded: {error}"
    if (runs < 0).any():
        return f"its run lengths hold a negative one, {runs.min()}"
    if runs.sum() != height * width:
        return (
            f"its run lengths cover {runs.sum()} pixels, but {height} x {width} (height x width) are {height * width}"
        )
    return ""


def as_shares(values: Any) -> bool:
    """Tell whether coordinates look like shares of a picture's sides, 0 to 1, where pixels are meant."""
    array = np.asarray(values, dtype=float)
    return array.size > 0 and bool(((array >= 0) & (array <= 1)).all()) and bool((array % 1 > 0).any())


def _polygon_problem(polygon: Any) -> str:
    if not isinstance(polygon, list):
        nested = isinstance(polygon, Real)
        hint = " (a polygon needs a list around it)" if nested else ""
        return f"its segmentation holds {_short(polygon)} where a polygon should be{hint}: {ADVICE}"
    try:
        values = np.array(polygon, dtype=float)
    except (TypeError, ValueError):
        return f"its polygon {_short(polygon)} holds something else than numbers: {ADVICE}"
    if values.ndim != 1:
        return f"its polygon {_short(polygon)} is nested: {ADVICE}"
    if not np.isfinite(values).all():
        return f"its polygon {_short(polygon)} holds a number that is not finite"
    if len(values) > 6 and len(values) % 2:  # shorter ones have no area and are passed over, as mmdet does
        return f"its polygon {_short(polygon)} holds {len(values)} numbers, so an x or y is missing: {ADVICE}"
    return ""


def _runs(counts: Any) -> np.ndarray:
    """Lengths of the runs, the first of pixels outside of the mask, of COCO's counts of either kind."""
    if isinstance(counts, list):
        if not all(isinstance(run, int) and not isinstance(run, bool) for run in counts):
            raise ValueError("counts holds something else than whole numbers")
        return np.array(counts, dtype=np.int64)
    if not isinstance(counts, str | bytes):
        raise ValueError(f"counts is {_short(counts)}, neither text nor a list")
    return _decompressed(counts.encode("utf-8") if isinstance(counts, str) else counts)


def _decompressed(counts: bytes) -> np.ndarray:
    """COCO's text: numbers of 5 bits per letter, lowest first, from the fourth on less the one two before."""
    letters = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(letters):
        return letters
    last = (letters & 32) == 0
    if (letters < 0).any() or (letters > 63).any() or not last[-1]:
        raise ValueError("counts is damaged or cut")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 8:
        raise ValueError("counts holds a number of over 40 bits")
    digits = np.arange(len(letters)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((letters & 31) << (5 * digits), starts)
    runs -= ((letters[ends] & 16) > 0) * (1 << (5 * lengths))
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
