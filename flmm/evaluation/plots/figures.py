"""How all figures look, and how they become files, pictures and parts of a page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from flmm.checkpoint import part_name, publish
from flmm.evaluation.drawings import COLOURS, Colour
from flmm.outputs import in_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.0  # inches; with letters of 10 points they are still read on a phone
DOTS = 200  # per inch
HEAT = "viridis"  # as light as it is high, so it is read without color too


def shade(color: Colour) -> tuple[float, float, float]:
    """A color of drawings as matplotlib wants it."""
    red, green, blue = (part / 255 for part in color)
    return red, green, blue


FIRST, SECOND = shade(COLOURS[1]), shade(COLOURS[0])  # blue and orange, told apart by everybody


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS, layout="constrained")


def plain(axes: Any) -> None:
    """Take the box around axes away, and leave the two lines that are read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def as_svg(figure: Figure) -> str:
    """The figure as SVG, for `Report.plot`."""
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()


def as_image(figure: Figure, dots: int = DOTS) -> Image.Image:
    """The figure as a picture.

    Args:
        figure: What to draw.
        dots: Pixels per inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dots)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def figure_path(path: str | Path) -> Path:
    """A path for a figure, its folder made.

    Raises:
        ValueError: When its ending is no format of figures, or its folder cannot be made.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise ValueError(f"cannot write a figure to {path}: end it in .png, .svg or .pdf")
    return in_folder(path)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure under a temporary name, then rename it (errors: `figure_path`)."""
    path = figure_path(path)
    part = part_name(path)
    figure.savefig(part, format=path.suffix[1:].lower())
    publish(part, path)
    return path
