"""Label Studio."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np

from flmm.datasets.own.convert.figures import ellipse, rectangle, turned
from flmm.datasets.own.convert.lines import PICTURES, Line, Notes, by_label, picture, read_json
from flmm.masks import encode_mask


def label_studio(source: Path, images: Path, notes: Notes) -> Iterator[Line]:
    """Label Studio's JSON export: a task is a line, its labels are the text."""
    tasks = read_json(source)
    if not isinstance(tasks, list):
        raise ValueError(f"{source} is no JSON export of Label Studio: export as JSON, not as JSON-MIN or CSV")
    for task in tasks:
        data = task["data"]
        url = next((value for value in (data.get("image"), *data.values()) if _is_picture(value)), None)
        if url is None:
            notes.skip("tasks without a picture")
            continue
        results = [r for a in task.get("annotations", []) if not a.get("was_cancelled") for r in a["result"]]
        shapes = [(result, region) for result in results if (region := _studio(result, notes))]
        size = next(((r["original_height"], r["original_width"]) for r, _ in shapes), None)
        found = [(label, region) for result, region in shapes for label in _labels(result)]
        yield by_label(Line(_picture(images, url), size=size), found, notes)


def _picture(images: Path, url: str) -> Path:
    """Return the file of an address, if need be without the eight letters that an upload gets."""
    path = _local(url)
    return picture(images, path, re.sub(r"(^|/)[0-9a-f]{8}-([^/]*)$", r"\1\2", path))


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and Path(urlparse(_local(value)).path).suffix.lower() in PICTURES


def _local(url: str) -> str:
    """Return the path below the pictures' folder that an upload or a local file of Label Studio has."""
    parts = urlparse(url)
    path = unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    return re.sub(r"^.*?/?data/(upload/(\d+/)?|local-files/)", "", path).lstrip("/")


def _labels(result: dict[str, Any]) -> list[str]:
    value = result["value"]
    return next((value[key] for key in value if key.endswith("labels") and value[key]), [])


def _studio(result: dict[str, Any], notes: Notes) -> Any:
    """Return the region of a result, whose sizes are percent of the picture; None for relations, points and others."""
    value, kind = result.get("value", {}), result["type"]
    height, width = result.get("original_height"), result.get("original_width")
    if not value or not height or not width:
        notes.skip(f"results of the type {kind!r}")
        return None
    if "points" in value:
        return [[x * width / 100, y * height / 100] for x, y in value["points"]]
    if "rle" in value:
        return encode_mask(brush_mask(value["rle"], height, width))
    if "radiusX" in value or "height" in value:
        return _turnable(value, height / 100, width / 100)
    notes.skip(f"results of the type {kind!r}")
    return None


def _turnable(value: dict[str, Any], down: float, right: float) -> list[list[float]]:
    """Return corners of an ellipse or rectangle; the latter turns around its first corner."""
    x, y, turn = value["x"] * right, value["y"] * down, value.get("rotation") or 0
    if "radiusX" in value:
        return ellipse(x, y, value["radiusX"] * right, value["radiusY"] * down, turn)
    return turned(rectangle(x, y, x + value["width"] * right, y + value["height"] * down), x, y, turn)


def brush_mask(rle: list[int], height: int, width: int) -> np.ndarray:
    """Decode the mask [height, width] of Label Studio's brush: run lengths of an RGBA picture, packed in bits.

    Raises:
        ValueError: When they do not fill the picture.
    """
    bits = np.unpackbits(np.array(rle, dtype=np.uint8))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError(f"run lengths of a brush end after {len(rle)} bytes, in the middle of a picture")
        value = int("".join(map(str, bits[place : place + count])) or "0", 2)
        place += count
        return value

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise ValueError(f"run lengths of a brush are of {total // 4} pixels, the picture has {height * width}")
    values, filled = np.zeros(total, dtype=np.uint8), 0
    while filled < total:
        repeated = read(1)
        end = min(total, filled + 1 + read(sizes[read(2)]))
        if repeated:
            values[filled:end] = read(word)
        else:
            values[filled:end] = [read(word) for _ in range(end - filled)]
        filled = end
    return values.reshape(height, width, 4)[..., 3] > 0
