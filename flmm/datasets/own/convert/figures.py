"""Shapes that several annotation tools know, and their XML."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from flmm.datasets.own.convert.lines import read_bytes
from flmm.masks import encode_mask

CIRCLE = 64  # corners of what stands for a circle
Corners = list[list[float]]


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turn: float = 0.0) -> Corners:
    """Return corners of an ellipse, turned by degrees around its center."""
    angles = (2 * math.pi * step / CIRCLE for step in range(CIRCLE))
    return turned([[x + radius_x * math.cos(a), y + radius_y * math.sin(a)] for a in angles], x, y, turn)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Corners:
    """Return the corners of a rectangle."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def turned(corners: Corners, x: float, y: float, degrees: float) -> Corners:
    """Return corners turned around a point, clockwise on the screen."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    moved = [(right - x, down - y) for right, down in corners]
    return [[x + right * cosine - down * sine, y + right * sine + down * cosine] for right, down in moved]


def pasted(part: np.ndarray, box: list[float], size: tuple[int, int]) -> Any:
    """Return run lengths of a picture with a small mask at the corner of a box; what lies outside is cut off."""
    mask, x, y = np.zeros(size, dtype=bool), int(box[0]), int(box[1])
    part = part[max(0, -y) :, max(0, -x) :]
    target = mask[max(0, y) :, max(0, x) :]
    height, width = (min(sides) for sides in zip(part.shape, target.shape, strict=True))
    target[:height, :width] = part[:height, :width]
    return encode_mask(mask)


def read_xml(file: Path) -> ET.Element:
    """Return the root of an XML file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no XML; names it.
    """
    try:
        return ET.fromstring(read_bytes(file))
    except ET.ParseError as error:
        raise ValueError(f"{file} is not complete XML ({error}): unpack or export it again") from error
