"""Pictures of groundings: image, merged attention, coarse mask, refined mask, ground truth side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import regex
from PIL import Image, ImageDraw, ImageFont

from flmm.masks import as_masks

if TYPE_CHECKING:
    from flmm.api import Grounding

# Okabe and Ito's colours, told apart with all common kinds of colour vision; the yellow is darkened for text.
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (150, 130, 0))
INK, PAPER, GREY = (32, 32, 32), (255, 255, 255), (110, 110, 110)
PANEL, GAP, LINE = 224, 8, 20
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "AVIF": 65535}  # pixels that a format can hold
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"

Colour = tuple[int, int, int]


def colour_of(phrase: int) -> Colour:
    """The colour of the phrase of an index."""
    return COLOURS[phrase % len(COLOURS)]


@cache
def font(size: int = 14, bold: bool = False, text: str = "") -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same on every machine. For Chinese, say, one that is installed."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    (folder,) = find_spec("matplotlib").submodule_search_locations  # type: ignore[union-attr,misc]  # not imported
    own = str(Path(folder, "mpl-data/fonts/ttf", name))
    if not text.isascii() and not set(text) <= letters(own):
        from matplotlib.font_manager import findSystemFonts  # lists all fonts of the machine when it is imported

        own = next((file for file in sorted(findSystemFonts()) if set(text) <= letters(file)), own)
    return ImageFont.truetype(own, size)


@cache
def letters(file: str) -> set[str]:
    """What a font can write."""
    from matplotlib.ft2font import FT2Font

    return {chr(code) for code in FT2Font(file).get_charmap()}


def overlay(image: Image.Image, masks: np.ndarray, colours: Sequence[Colour], alpha: float = 0.6) -> Image.Image:
    """Masks [M, H, W] painted over a picture of any size, with a solid outline each; the rest is pale and grey."""
    colourful = np.asarray(image.convert("RGB"), dtype=np.float32)
    pixels = 0.45 * np.asarray(image.convert("L").convert("RGB"), dtype=np.float32) + 0.55 * 255
    for mask, colour in zip(masks, colours, strict=True):
        mask = shrink(mask, image.height, image.width)
        pixels[mask] = (1 - alpha) * colourful[mask] + alpha * np.array(colour)
        pixels[outline(mask)] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def shrink(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The nearest pixels of a mask [H, W] as [height, width]."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip((height, width), mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that have a neighbour outside of it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def heat(image: Image.Image, attention: np.ndarray) -> Image.Image:
    """An attention map [h, w] over a grey copy of the picture, from its 1st percentile to its 99th."""
    import matplotlib

    low, high = np.percentile(attention, (1, 99))
    shares = ((attention - low) / max(high - low, 1e-12)).clip(0, 1)
    scaled = Image.fromarray((shares * 255).astype(np.uint8))
    values = np.asarray(scaled.resize(image.size, Image.Resampling.BILINEAR)) / 255
    colours = matplotlib.colormaps["inferno"](values)[..., :3] * 255
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    return Image.fromarray((0.35 * grey + 0.65 * colours).astype(np.uint8))


def draw(grounding: Grounding, targets: Any = None, clusters: np.ndarray | None = None) -> Image.Image:
    """One row of panels per phrase, below the text in which the phrases have the colours of their masks.

    Args:
        grounding: What a model found.
        targets: [M, H, W] ground truth, see `flmm.masks.as_masks`.
        clusters: [M, h, w] bool over the picture, of `flmm.evaluation.clusters`: another panel beside the attention.

    Returns:
        A picture of about 224 pixels per panel, whatever the size of the photo.

    Raises:
        ValueError: For targets that are no masks of these phrases in this picture.
    """
    if targets is not None:
        targets = as_masks(targets, grounding.masks.shape, "targets")
    small = thumbnail(grounding.image)
    titles = ["image", "attention"] + ["attention, two clusters"] * (clusters is not None)
    titles += ["coarse mask", "refined mask"] + ["ground truth"] * (targets is not None)
    width = GAP + len(titles) * (PANEL + GAP)
    text = text_block(grounding.text, grounding.spans, width - 2 * GAP)
    row_height = small.height + LINE + GAP
    canvas = Image.new("RGB", (width, text.height + LINE + len(grounding.phrases) * row_height + 2 * GAP), PAPER)
    canvas.paste(text, (GAP, GAP))
    pen, top = ImageDraw.Draw(canvas), text.height + GAP
    for column, title in enumerate(titles):
        pen.text((GAP + column * (PANEL + GAP), top), title, fill=GREY, font=font(13))
    for row in range(len(grounding.phrases)):
        y = top + LINE + row * row_height
        words = label(grounding, row, targets)
        pen.text((GAP, y), words, fill=colour_of(row), font=font(13, bold=True, text=words))
        for column, panel in enumerate(panels(grounding, row, small, targets, clusters)):
            canvas.paste(panel, (GAP + column * (PANEL + GAP), y + LINE))
    return canvas


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a drawing, made smaller where its format cannot hold it.

    Raises:
        ValueError: When it cannot be written.
    """
    limit = LONGEST_SIDE.get(Image.registered_extensions().get(Path(path).suffix.lower(), ""), 0)
    if limit and max(picture.size) > limit:
        picture = picture.copy()
        picture.thumbnail((limit, limit))
    try:
        picture.save(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot write {path} ({error}): choose another place, or end it in .png") from error


def thumbnail(image: Image.Image) -> Image.Image:
    """The picture, made to fit a panel."""
    scale = PANEL / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def panels(
    grounding: Grounding,
    phrase: int,
    small: Image.Image,
    targets: np.ndarray | None,
    clusters: np.ndarray | None = None,
) -> list[Image.Image]:
    """The panels of a phrase; the first shows its box."""
    colour = [colour_of(phrase)]
    boxed = small.copy()
    box = grounding.boxes[phrase] * (small.width / grounding.image.width)
    if grounding.masks[phrase].any():
        ImageDraw.Draw(boxed).rectangle([*box[:2], *np.maximum(box[2:] - 1, box[:2])], outline=colour[0], width=2)
    masks = [one for one in (clusters, grounding.coarse_masks, grounding.masks, targets) if one is not None]
    painted = [overlay(small, stack[phrase][None], colour) for stack in masks]
    return [boxed, heat(small, grounding.attention[phrase]), *painted]


def label(grounding: Grounding, phrase: int, targets: np.ndarray | None) -> str:
    """What is written above the panels of a phrase: numbers first, as a long phrase is cut off."""
    figures = f"score {grounding.scores[phrase]:.2f}   "
    if targets is not None:
        mask, target = grounding.masks[phrase], targets[phrase]
        figures += f"IoU {(mask & target).sum() / max((mask | target).sum(), 1):.2f}   "
    return figures + grounding.phrases[phrase]


def text_block(text: str, spans: Sequence[tuple[int, int]], width: int) -> Image.Image:
    """A text, wrapped, with every phrase in its colour."""
    face = font(15, text=" ".join(text.split()))
    lines = wrapped(coloured_words(text, spans), width, face.getlength)
    block = Image.new("RGB", (width, 22 * len(lines) + GAP), PAPER)
    pen = ImageDraw.Draw(block)
    for row, line in enumerate(lines):
        x = 0.0
        for piece, colour in line:
            pen.text((x, 22 * row), piece, fill=colour, font=face)
            x += face.getlength(piece)
    return block


def wrapped(
    words: Iterable[tuple[str, Colour]], width: float, length: Callable[[str], float]
) -> list[list[tuple[str, Colour]]]:
    """Lines of pieces of text that are at most `width` long; words that are longer are broken between letters."""
    lines: list[list[tuple[str, Colour]]] = [[]]
    room = width
    for word, colour in words:
        for piece in _pieces(word, width, length):
            if lines[-1] and length(piece.rstrip()) > room:
                lines.append([])
                room = width
            lines[-1].append((piece, colour))
            room -= length(piece)
    return lines


def _pieces(word: str, width: float, length: Callable[[str], float]) -> list[str]:
    """A word and a space, cut into letters where it is too long for a line or of a script without spaces."""
    if length(word) <= width and not regex.search(UNSPACED, word):
        return [f"{word} "]
    letters = regex.findall(r"\X", word)
    return [*letters[:-1], f"{letters[-1]} "]


def coloured_words(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[str, Colour]]:
    """The words of a text, each with the colour of its phrase, or ink."""
    from flmm.datasets.phrases import split_text

    return [(word, INK if i < 0 else colour_of(i)) for piece, i in split_text(text, spans) for word in piece.split()]
