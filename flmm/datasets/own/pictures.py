"""From an entry to its picture and masks, inside one folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flmm.datasets.images import as_annotated, check_lossless, convertible, ids_of_rgb, read_image, upright
from flmm.datasets.own.entries import Entry
from flmm.datasets.regions import as_mask, box_mask

Size = tuple[int, int]
GRAY = 1 + 256 + 65536  # id of the gray level 1 in a file that was saved as RGB


def inside(root: Path, path: str) -> Path:
    """Return a path of a file below a folder; backslashes of Windows part folders where no such file is there.

    Raises:
        FileNotFoundError: No such file.
        ValueError: When it leaves the folder, or its links run in a circle.
    """
    base = root.resolve()
    try:
        found = (base / path).resolve()
        if "\\" in path and not found.exists():
            found = (base / path.replace("\\", "/")).resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: its links run in a circle ({error})") from error
    if not found.is_relative_to(base):
        raise ValueError(f"{path} leaves {root}: write paths inside it, or pass a folder that holds all files as root")
    if not found.exists():
        advice = "fetch it, and write its path" if "://" in path else "correct the path, or pass another folder as root"
        raise FileNotFoundError(f"no image {path} in {root}: {advice}")
    return found


def open_entry(entry: Entry, root: Path) -> tuple[Image.Image, np.ndarray]:
    """Return the picture and the masks [M, H, W] uint8 of an entry.

    Polygons and boxes are of the picture as a viewer shows it. Where the entry gives a size, or a mask has one, that
    only fits the picture as it is stored, it is taken so.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file cannot be decoded, leaves the folder, or sizes differ.
    """
    file = inside(root, entry.image)
    image = read_image(file)
    segments = {path: _read_segments(inside(root, path)) for path in _pngs(entry)}
    known = entry.size or next(_sizes(entry, segments), None)
    if known:
        image = as_annotated(image, known, entry.image, as_shown=True)
    else:
        image = convertible(upright(image), entry.image)
    masks = np.zeros((len(entry.regions), image.height, image.width), dtype=np.uint8)
    for number, (regions, words) in enumerate(zip(entry.regions, entry.words, strict=True)):
        try:
            for region in regions:
                masks[number] |= _mask(region, (image.height, image.width), segments)
        except ValueError as error:
            raise ValueError(f"phrase {number} ({words!r}): {error}") from error
    return image, masks


def _pngs(entry: Entry) -> Iterator[str]:
    for regions in entry.regions:
        yield from (region["png"] for region in regions if isinstance(region, dict) and "png" in region)


def _sizes(entry: Entry, segments: dict[str, np.ndarray]) -> Iterator[Size]:
    """Return the sizes that masks have of themselves."""
    for segment in segments.values():
        yield segment.shape[0], segment.shape[1]
    for regions in entry.regions:
        for region in regions:
            if isinstance(region, dict) and isinstance(region.get("size"), list) and len(region["size"]) == 2:
                yield region["size"][0], region["size"][1]


def _mask(region: Any, size: Size, segments: dict[str, np.ndarray]) -> np.ndarray:
    if not isinstance(region, dict) or "counts" in region or "size" in region:
        return as_mask(region, size)
    if "box" in region:
        return box_mask(region["box"], size)
    if "png" not in region:
        raise ValueError(f"mask {str(region)[:60]} is neither run lengths, polygons, a box nor a PNG")
    ids = segments[region["png"]]
    if ids.shape != size:
        raise ValueError(f"{region['png']} is {ids.shape[0]} x {ids.shape[1]}, the picture {size[0]} x {size[1]}")
    wanted = region.get("id")
    if wanted is not None and not isinstance(wanted, int):
        raise ValueError(f"id {wanted!r} of {region['png']} is no whole number")
    mask = ids > 0 if wanted is None else ids == wanted
    if wanted is not None and not mask.any():
        mask = ids == wanted * GRAY
    if wanted is not None and not mask.any():
        known = ", ".join(map(str, np.unique(ids)[:10]))
        raise ValueError(f"{region['png']} has no pixel of id {wanted}; it has {known}")
    return mask


def _read_segments(file: Path) -> np.ndarray:
    """Return [H, W] values of a mask's PNG: gray levels, palette entries, or R + 256 G + 65536 B.

    Raises:
        ValueError: It is transparent, or its format changes values.
    """
    image = read_image(file)
    check_lossless(image, file)
    if image.mode in ("RGBA", "LA", "PA", "CMYK"):
        raise ValueError(f"{file} has the mode {image.mode}: save a mask as gray, palette or RGB without transparency")
    values = np.asarray(image)
    return (ids_of_rgb(values) if values.ndim == 3 else values).astype(np.int64)
