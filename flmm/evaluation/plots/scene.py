"""A text and its picture with all masks at once, in the colors of the phrases: what one shows of a grounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from flmm.evaluation.drawings import GAP, GREY, PAPER, colour_of, coloured_words, font, overlay, wrapped
from flmm.evaluation.plots.cards import lined

if TYPE_CHECKING:
    from flmm.api import Grounding


def draw_scene(grounding: Grounding, above: str = "", width: int = 400, letters: int = 17) -> Image.Image:
    """The text of a grounding, its phrases in the colors of their masks, above the picture with all of them.

    Args:
        grounding: What a model found.
        above: A line in front of the text, for example the question.
        width: Of the picture, in pixels.
        letters: Size of the letters, in pixels.
    """
    scale = width / grounding.image.width
    picture = grounding.image.resize((width, max(1, round(grounding.image.height * scale))))
    colors = [colour_of(phrase) for phrase in range(len(grounding.masks))]
    painted = overlay(picture, grounding.masks, colors, alpha=0.35)
    for mask, color in zip(grounding.masks, colors, strict=True):
        painted = lined(painted, mask, color)
    words = [(word, GREY) for word in above.split()]
    lines = wrapped(words, width, font(letters, text=above).getlength) if words else []
    face = font(letters, bold=True, text=grounding.text)
    said = wrapped(coloured_words(grounding.text, grounding.spans), width, face.getlength)
    step = round(letters * 1.35)
    canvas = Image.new("RGB", (width, (len(lines) + len(said)) * step + GAP + painted.height), PAPER)
    pen = ImageDraw.Draw(canvas)
    for row, line in enumerate([*lines, *said]):
        x = 0.0
        used = face if row >= len(lines) else font(letters, text=above)
        for piece, color in line:
            pen.text((x, row * step), piece, fill=color, font=used)
            x += used.getlength(piece)
    canvas.paste(painted, (0, canvas.height - painted.height))
    return canvas
