"""Shapes that several annotation tools know, and their XML."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from flmm.masks import encode_mask

CIRCLE = 64  # corners of what stands for a circle


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turn: float = 0.0) -> list[list[float]]:
    """Corners of an ellipse, turned by degrees around its center."""
    sine, cosine = math.sin(math.radians(turn)), math.cos(math.radians(turn))
    corners = []
    for step in range(CIRCLE):
        angle = 2 * math.pi * step / CIRCLE
        right, down = radius_x * math.cos(angle), radius_y * math.sin(angle)
        corners.append([x + right * cosine - down * sine, y + right * sine + down * cosine])
    return corners


def pasted(part: np.ndarray, box: list[float], size: tuple[int, int]) -> Any:
    """Run lengths of a picture with a small mask at the corner of a box."""
    mask, x, y = np.zeros(size, dtype=bool), int(box[0]), int(box[1])
    height, width = min(part.shape[0], size[0] - y), min(part.shape[1], size[1] - x)
    mask[y : y + height, x : x + width] = part[:height, :width]
    return encode_mask(mask)


def read_xml(file: Path) -> ET.Element:
    """Return the root of an XML file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no XML; names it.
    """
    try:
        return ET.parse(file).getroot()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {file}: check the path") from error
    except ET.ParseError as error:
        raise ValueError(f"{file} is not complete XML ({error}): export it again") from error
