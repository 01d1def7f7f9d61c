"""A report as one HTML file: metrics, training curves and pictures, with nothing to fetch from elsewhere."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from flmm.evaluation.tables import cell

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #202020; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1, h2 { line-height: 1.2; overflow-wrap: break-word; } dt { font-weight: 600; } dd { margin: 0 0 .4em 1em; }
.wide { overflow-x: auto; } svg { width: 100%; min-width: 640px; height: auto; }
table { border-collapse: collapse; margin: 0 0 2em; } h3 { font-size: 1em; margin: 0 0 .4em; }
td, th { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; padding-left: 0; } th { color: #555; font-weight: 500; }
img { max-width: 100%; box-sizing: border-box; border: 1px solid #ddd; margin: 0 0 1em; }
.plot svg { width: 480px; min-width: 0; max-width: 100%; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: .8em; margin: 0 0 2em; }
figure { margin: 0; } figure img { margin: 0; width: 100%; max-width: 224px; }
figcaption { font-size: 13px; line-height: 1.3; color: #555; }
pre { background: #f4f4f4; padding: 1em; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 900px) { .wide img { max-width: none; } }
""".strip()


class Link(NamedTuple):
    """A value of a table that leads to a gallery.

    Attributes:
        value: What is shown.
        name: Name of the gallery.
    """

    value: Any
    name: str


def _content(value: Any) -> str:
    """What stands in a cell."""
    if isinstance(value, Link):
        return f'<a href="#{escape(value.name)}">{escape(cell(value.value))}</a>'
    return escape(cell(value))


def jpeg_url(image: Image.Image) -> str:
    """A picture as the address of an <img>."""
    jpeg = io.BytesIO()
    image.convert("RGB").save(jpeg, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode('ascii')}"


@dataclass
class Report:
    """Collects parts, then writes them as one file.

    Attributes:
        title: Heading of the page.
        parts: HTML, in order.
    """

    title: str
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Begins a section."""
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def gallery(self, name: str, text: str, cards: Iterable[tuple[Image.Image, str]]) -> None:
        """Adds pictures with a line each, below a heading that a `Link` leads to."""
        shown = "".join(
            f'<figure><img alt="{escape(words)}" src="{jpeg_url(picture)}">'
            f"<figcaption>{escape(words)}</figcaption></figure>"
            for picture, words in cards
        )
        self.parts.append(f'<h3 id="{escape(name)}">{escape(text)}</h3><div class="gallery">{shown}</div>')

    def paragraph(self, text: str) -> None:
        """Adds running text."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def commands(self, lines: Iterable[str]) -> None:
        """Adds commands as they were run."""
        self.parts.append(f"<pre>{escape(chr(10).join(lines))}</pre>")

    def table(self, caption: str, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
        """Adds a table; numbers get two decimals."""
        head = "".join(f"<th>{escape(name)}</th>" for name in header)
        body = "".join(f"<tr>{''.join(f'<td>{_content(value)}</td>' for value in row)}</tr>" for row in rows)
        self.parts.append(f'<h3>{escape(caption)}</h3><div class="wide"><table><tr>{head}</tr>{body}</table></div>')

    def terms(self, meaning: Mapping[str, str]) -> None:
        """Adds a list of words and what they mean."""
        items = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in meaning.items())
        self.parts.append(f"<dl>{items}</dl>")

    def picture(self, path: str | Path, text: str = "") -> None:
        """Adds a picture file, as a JPEG inside the page: a tenth of a PNG's size."""
        with Image.open(path) as image:
            self.parts.append(f'<p class="wide"><img alt="{escape(text)}" src="{jpeg_url(image)}"></p>')

    def figure(self, svg: str) -> None:
        """Adds a drawing."""
        self.parts.append(f'<div class="wide">{svg}</div>')

    def plot(self, svg: str) -> None:
        """Adds a figure of `flmm.evaluation.plots`, which a phone shows whole."""
        self.parts.append(f'<div class="plot">{svg[svg.index("<svg") :]}</div>')

    def write(self, path: str | Path) -> Path:
        """Writes the page."""
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(self.title)}</title>'
            f"<style>{STYLE}</style></head><body><h1>{escape(self.title)}</h1>{''.join(self.parts)}</body></html>"
        )
        Path(path).write_text(page, encoding="utf-8")
        return Path(path)


def read_scalars(work_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """What training logged, by name: (iteration, value), all runs of a work folder joined.

    A resumed run logs some iterations again; the last value of each counts.
    """
    values: dict[str, dict[int, float]] = {}
    for file in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            for name, value in entry.items():
                if isinstance(value, int | float):
                    values.setdefault(name, {})[entry["step"]] = value
    return {name: sorted(points.items()) for name, points in values.items()}


CURVES = {
    "loss": ("loss_mask", "loss_dice", "sam_loss_mask", "sam_loss_dice"),
    "IoU of the masks": ("aiou", "sam_aiou"),
    "learning rate": ("lr",),
}


def draw_curves(scalars: dict[str, list[tuple[int, float]]]) -> str:
    """Losses, IoUs and learning rate over iterations, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(CURVES)), CURVES.items(), strict=True):
        for name in names:
            if name in scalars:
                axes.plot(*zip(*scalars[name], strict=True), label=name, linewidth=1.2)
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    return svg.getvalue()[svg.getvalue().index("<svg") :]
