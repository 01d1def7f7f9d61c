"""LabelMe and CVAT."""

from __future__ import annotations

import base64
import binascii
import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flmm.datasets.own.convert.figures import ellipse, pasted, read_xml, rectangle, turned
from flmm.datasets.own.convert.lines import Line, Notes, by_label, files_of, picture, read_json


def labelme(source: Path, notes: Notes, images: Path | None = None) -> Iterator[Line]:
    """LabelMe: a JSON file per picture; its labels are the text."""
    for file in files_of(source, "*.json"):
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            notes.skip("JSON files that are not of LabelMe")
            continue
        height, width = content.get("imageHeight"), content.get("imageWidth")
        size = (int(height), int(width)) if height and width else None
        line = Line(picture(images or file.parent, str(content["imagePath"])), size=size)
        found = [(shape["label"], region) for shape in content["shapes"] if (region := _labelme(shape, size, notes))]
        yield by_label(line, found, notes)


def _labelme(shape: dict[str, Any], size: tuple[int, int] | None, notes: Notes) -> Any:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind in ("polygon", "rotation") and len(points) >= 3:
        return points
    if kind == "rectangle":
        return {"box": _corners(points)}
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        return ellipse(x, y, radius, radius)
    if kind == "mask" and size is not None:
        return pasted(_decoded(shape["mask"]), _corners(points), size)
    notes.skip(f"shapes of the kind {kind!r}")
    return None


def _corners(points: list[list[float]]) -> list[float]:
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _decoded(text: str) -> np.ndarray:
    """Return [h, w] bool of a PNG in base 64."""
    try:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L")) > 0
    except (binascii.Error, OSError) as error:
        raise ValueError(f"a mask of LabelMe is no PNG in base 64 ({error})") from error


def cvat(source: Path, images: Path, notes: Notes) -> Iterator[Line]:
    """CVAT for images 1.1: an XML file; the labels of a picture are its text."""
    for image in read_xml(source).iter("image"):
        size = (int(image.attrib["height"]), int(image.attrib["width"]))
        line = Line(picture(images, image.attrib["name"]), size=size)
        found = [(shape.attrib["label"], region) for shape in image if (region := _cvat(shape, size, notes))]
        yield by_label(line, found, notes)


def _cvat(shape: ET.Element, size: tuple[int, int], notes: Notes) -> Any:
    get = shape.attrib.get
    if shape.tag == "polygon":
        return [[float(side) for side in point.split(",")] for point in get("points", "").split(";")]
    if shape.tag == "box":
        return _cvat_box(
            [float(shape.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr")], float(get("rotation", 0))
        )
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y, turn = (float(get(side, 0)) for side in ("cx", "cy", "rx", "ry", "rotation"))
        return ellipse(x, y, radius_x, radius_y, turn)
    if shape.tag == "mask":
        left, top, width, height = (int(get(side, "0")) for side in ("left", "top", "width", "height"))
        runs = [int(run) for run in get("rle", "").split(",")]
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        if flat.size != width * height:
            raise ValueError(f"a mask of CVAT has runs of {flat.size} pixels for {width} x {height}")
        return pasted(flat.reshape(height, width), [left, top, 0, 0], size)
    if shape.tag not in ("tag", "attribute"):
        notes.skip(f"shapes of the kind {shape.tag!r}")
    return None


def _cvat_box(box: list[float], turn: float) -> Any:
    """Return a box, or the corners of one that is turned around its center."""
    x0, y0, x1, y1 = box
    return turned(rectangle(*box), (x0 + x1) / 2, (y0 + y1) / 2, turn) if turn else {"box": box}
