"""`flmm data check FILE.jsonl`: every fault with its line, and a contact sheet of what is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from flmm.console import counted
from flmm.datasets.check_parts import Report
from flmm.datasets.own.dataset import check_new
from flmm.datasets.own.entries import Entry, parse, read_lines
from flmm.datasets.own.pictures import open_entry
from flmm.evaluation.drawings import colour_of, font, overlay
from flmm.outputs import apart

SHOWN = 100  # faults that are listed one by one
SHEET = "contact sheet of flmm data check"  # a JPEG says so of itself
TILE, TEXT, COLUMNS, TILES = 320, 84, 4, 12


@dataclass(frozen=True)
class _Seen:
    """What the report needs of a sound line."""

    picture: str
    phrases: int
    without_target: int


def own_sheet(file: Path) -> Path:
    """Return where the contact sheet of a file goes when no place is named: beside it.

    Raises:
        FileExistsError: Another picture is there.
    """
    sheet = file.with_name(f"{file.stem}_sheet.jpg")
    if sheet.exists() and _comment(sheet) != SHEET.encode():
        raise FileExistsError(f"{sheet} exists and was not drawn by flmm data check: name another file with --sheet")
    return sheet


def _comment(picture: Path) -> bytes | None:
    try:
        with Image.open(picture) as opened:
            return opened.info.get("comment")
    except OSError:
        return None


def check_file(file: str | Path, root: str | Path | None = None, sheet: str | Path | None = None) -> Report:
    """Check a JSON Lines file with all of its pictures and masks.

    Args:
        file: The JSON Lines file.
        root: Folder that its paths start from; by default that of the file.
        sheet: Picture to draw with the first lines that have no fault; none when not given.

    Returns:
        The report: each fault with its line, then counts.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The sheet is one of the pictures.
    """
    file, report = Path(file), Report()
    base = file.parent if root is None else Path(root)
    seen: list[_Seen] = []
    tiles: list[Image.Image] = []
    faults = 0
    for number, found in _lines(file, base):
        if isinstance(found, str):
            faults += 1
            if faults <= SHOWN:
                report.broken(f"{file}, line {number}", found)
            continue
        entry, image, masks = found
        seen.append(_Seen(entry.image, len(entry.spans), sum(not regions for regions in entry.regions)))
        if sheet and len(tiles) < TILES:
            tiles.append(_tile(entry, image, masks))
    _counts(file, seen, faults, report)
    if sheet and tiles:
        apart([sheet], [file, *(base / one.picture for one in seen)])
        _sheet(tiles).save(sheet, comment=SHEET)
        report.ok(sheet, f"contact sheet of the first {len(tiles)} sound lines")
    return report


def _lines(file: Path, root: Path) -> Iterator[tuple[int, str | tuple[Entry, Image.Image, np.ndarray]]]:
    """Return the number of each line, and its fault in words or its entry, picture and masks."""
    known: dict[int, int] = {}
    for number, _, line in read_lines(file):
        try:
            entry = parse(line)
            image, masks = open_entry(entry, root)
            _check_pixels(entry, masks)
            check_new(known, number, entry)
            yield number, (entry, image, masks)
        except (ValueError, OSError) as error:
            yield number, str(error)


def _check_pixels(entry: Entry, masks: np.ndarray) -> None:
    """Refuse a mask without a pixel (ValueError)."""
    for words, regions, mask in zip(entry.words, entry.regions, masks, strict=True):
        if regions and not mask.any():
            raise ValueError(f"the mask of {words!r} has no pixel: draw it, or write null for what is not shown")


def _counts(file: Path, seen: list[_Seen], faults: int, report: Report) -> None:
    if faults > SHOWN:
        report.broken(file, f"{faults} lines have a fault, {SHOWN} are listed")
    if not seen:
        report.broken(file, "no sound line", "the format is in docs/own_data.md")
        return
    phrases, bare = sum(line.phrases for line in seen), sum(not line.phrases for line in seen)
    pictures = len({line.picture for line in seen})
    report.ok(file, f"{counted(len(seen), 'line')}, {counted(pictures, 'picture')}, {counted(phrases, 'phrase')}")
    if missing := sum(line.without_target for line in seen):
        report.note(file, f"{missing} phrases have no target")
    if bare:
        report.note(file, f"{bare} lines have no phrase and are left out of training")


def _tile(entry: Entry, image: Image.Image, masks: np.ndarray) -> Image.Image:
    """Return a small picture with its masks, and the phrases in the colors of their masks below."""
    tile = Image.new("RGB", (TILE, TILE + TEXT), "white")
    colors = [colour_of(number) for number in range(len(masks))]
    small = image.convert("RGB")
    small.thumbnail((TILE, TILE))
    tile.paste(overlay(small, masks.astype(bool), colors), (0, 0))
    draw = ImageDraw.Draw(tile)
    for number, words in enumerate(entry.words[: TEXT // 20]):
        line = words if entry.regions[number] else f"{words} (no target)"
        draw.text((4, TILE + 2 + 20 * number), line[:44], fill=colors[number], font=font(14, text=line[:44]))
    return tile


def _sheet(tiles: list[Image.Image]) -> Image.Image:
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, len(tiles)) * TILE, rows * (TILE + TEXT)), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % COLUMNS * TILE, number // COLUMNS * (TILE + TEXT)))
    return sheet
