"""Contact sheets: cards of phrases in rows, below a title."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from flmm.evaluation.drawings import GAP, GREY, INK, PANEL, PAPER, Colour, font, wrapped
from flmm.evaluation.plots.cards import FOUND, TRUE, Card, Cards, extremes, places
from flmm.evaluation.records import read_records

LETTERS, LINE, LINES = 16, 21, 2  # size of letters, height of a line, lines below a picture
LEGEND = (("found", FOUND), ("true", TRUE))


def draw_worst(
    records: str | Path, images: str | Path | None = None, number: int = 9, kind: str = "refined", columns: int = 3
) -> Image.Image:
    """The phrases with the lowest and those with the highest IoU.

    Args:
        records: Folder of an evaluation's records.
        images: Folder of its pictures; by default the one that was evaluated.
        number: How many of each.
        kind: 'refined' or 'coarse'.
        columns: Cards in a row.

    Raises:
        FileNotFoundError: When records or pictures are missing.
        ValueError: When a record is damaged or older than true masks.
    """
    found = places(read_records(records), kind)
    cards = Cards(records, images, kind)
    name = f"{Path(records).name}, {kind} masks, {len(found)} phrases"
    titles = (f"lowest IoU: {name}", "highest IoU")
    parts = [
        (title, [cards.card(p) for p in part]) for title, part in zip(titles, extremes(found, number), strict=True)
    ]
    return stacked([sheet(title, part, columns) for title, part in parts if part])


def sheet(
    title: str, cards: Sequence[Card], columns: int = 3, legend: Sequence[tuple[str, Colour]] = LEGEND
) -> Image.Image:
    """Cards in rows below a title and what the colors mean."""
    width = GAP + columns * (PANEL + GAP)
    blocks = [heading(title, width, legend)]
    for start in range(0, len(cards), columns):
        blocks.append(_row(cards[start : start + columns], width))
    return stacked(blocks)


def stacked(blocks: Sequence[Image.Image]) -> Image.Image:
    """Blocks one below the other."""
    canvas = Image.new("RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), PAPER)
    top = 0
    for block in blocks:
        canvas.paste(block, (0, top))
        top += block.height
    return canvas


def heading(title: str, width: int, legend: Sequence[tuple[str, Colour]]) -> Image.Image:
    """A title in bold, as many lines as it takes, and the legend below."""
    face = font(LETTERS, bold=True, text=title)
    lines = _lines(title, width - 2 * GAP, face)
    block = Image.new("RGB", (width, (len(lines) + bool(legend)) * LINE + 2 * GAP), PAPER)
    pen = ImageDraw.Draw(block)
    for row, line in enumerate(lines):
        pen.text((GAP, GAP + row * LINE), line, fill=INK, font=face)
    x, y = GAP, GAP + len(lines) * LINE
    for name, color in legend:
        pen.rectangle((x, y + 3, x + 14, y + 17), fill=color)
        pen.text((x + 20, y), name, fill=GREY, font=font(LETTERS))
        x += 40 + round(font(LETTERS).getlength(name))
    return block


def _row(cards: Sequence[Card], width: int) -> Image.Image:
    faces = [font(LETTERS - 2, text=card.words) for card in cards]
    words = [_shortened(_lines(card.words, PANEL, face), LINES) for card, face in zip(cards, faces, strict=True)]
    heights = [card.picture.height + (len(lines) + 1) * LINE for card, lines in zip(cards, words, strict=True)]
    block = Image.new("RGB", (width, max(heights) + 2 * GAP), PAPER)
    pen = ImageDraw.Draw(block)
    for column, card in enumerate(cards):
        x = GAP + column * (PANEL + GAP)
        block.paste(card.picture, (x, 0))
        y = card.picture.height + 2
        pen.text((x, y), card.figure, fill=INK, font=font(LETTERS, bold=True))
        for row, line in enumerate(words[column]):
            pen.text((x, y + (row + 1) * LINE), line, fill=GREY, font=faces[column])
    return block


def _lines(words: str, width: int, face) -> list[str]:
    lines = wrapped([(word, INK) for word in words.split()], width, face.getlength)
    return ["".join(piece for piece, _ in line).rstrip() for line in lines]


def _shortened(lines: list[str], count: int) -> list[str]:
    return lines if len(lines) <= count else [*lines[: count - 1], f"{lines[count - 1][:-1]}…"]
