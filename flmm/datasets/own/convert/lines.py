"""What all converters share: a line being built, paths, and writing the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flmm.checkpoint import part_name, publish
from flmm.datasets.regions import as_rle
from flmm.masks import has_pixels

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass
class Notes:
    """What a conversion left out, counted by reason."""

    counts: Counter[str] = field(default_factory=Counter)

    def skip(self, reason: str) -> None:
        """Count one thing that is left out."""
        self.counts[reason] += 1


@dataclass
class Line:
    """A picture and a text about it.

    Attributes:
        image: The picture's file.
        text: The text; `say` appends to it.
        phrases: Phrases as they are written, with `span` or `text`, and `masks`.
        size: (height, width) as annotated, where the source says it.
    """

    image: Path
    text: str = ""
    phrases: list[dict[str, Any]] = field(default_factory=list)
    size: tuple[int, int] | None = None

    def add(self, span: tuple[int, int], regions: list[Any], **more: Any) -> None:
        """Add a phrase of the text."""
        self.phrases.append({"span": list(span), "masks": regions, **more})

    def say(self, words: str, regions: list[Any] | None = None, stop: str = ".", **more: Any) -> None:
        """Append words to the text, with what follows them; a phrase when regions are given."""
        start = len(self.text) + bool(self.text)
        self.text = f"{self.text} {words}{stop}" if self.text else f"{words}{stop}"
        if regions is not None:
            self.add((start, start + len(words)), regions, **more)

    def content(self, root: Path) -> dict[str, Any]:
        """Return the line as JSON values; paths start from `root`."""
        size = {} if self.size is None else {"height": self.size[0], "width": self.size[1]}
        phrases = [{**phrase, "masks": [_below(region, root) for region in phrase["masks"]]} for phrase in self.phrases]
        return {"image": relative(self.image, root), "text": self.text, **size, "phrases": phrases}

    def keep_pixels(self, notes: Notes) -> None:
        """Leave out masks without a pixel, and phrases that had no others; COCO has some of both."""
        for phrase in self.phrases:
            found = [region for region in phrase["masks"] if _has_pixels(region, self.size)]
            notes.counts["masks without a pixel"] += len(phrase["masks"]) - len(found)
            phrase["lost"] = bool(phrase["masks"]) and not found
            phrase["masks"] = found
        self.phrases = [phrase for phrase in self.phrases if not phrase.pop("lost")]


def _has_pixels(region: Any, size: tuple[int, int] | None) -> bool:
    """Tell whether a region has a pixel; true where the size is not known, or `flmm data check` has to name a fault."""
    if size is None or (isinstance(region, dict) and "png" in region):
        return True
    try:
        if isinstance(region, dict) and "box" in region:
            x0, y0, x1, y1 = (round(side) for side in region["box"])
            return min(x1, size[1]) > max(x0, 0) and min(y1, size[0]) > max(y0, 0)
        return has_pixels(as_rle(region, size), *size)
    except ValueError:
        return True


def _below(region: Any, root: Path) -> Any:
    """Return a region whose PNG, if it is one, is named from the root."""
    if isinstance(region, dict) and "png" in region:
        return {**region, "png": relative(Path(region["png"]), root)}
    return region


def relative(path: Path, root: Path) -> str:
    """Return a path as written in the file.

    Raises:
        ValueError: When the file is not below the root.
    """
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise ValueError(
            f"{path} is not below {root}{_meant(path)}: write --out into a folder that holds the pictures too, or give "
            "such a folder as --root, to the converter and to OwnDataset"
        ) from None


def _meant(path: Path) -> str:
    """Say where a path leads, when that is elsewhere."""
    return f" (it is a link to {path.resolve()})" if path.resolve() != path.absolute() else ""


def write_lines(lines: Iterable[Line], out: Path, root: Path, notes: Notes) -> int:
    """Write lines that have a phrase with a mask; the file appears when all of them are written.

    Returns:
        The number of lines.

    Raises:
        ValueError: A picture is not below the root, or there is no line.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part, count = part_name(out), 0
    try:
        with part.open("w", encoding="utf-8") as file:
            for line in _usable(lines, notes):
                file.write(json.dumps(line.content(root), ensure_ascii=False) + "\n")
                count += 1
        if not count:
            raise ValueError(f"nothing to write into {out}: no picture has a phrase with a mask")
        publish(part, out)
    finally:
        part.unlink(missing_ok=True)
    return count


def _usable(lines: Iterable[Line], notes: Notes) -> Iterator[Line]:
    """Return the lines with a phrase, each picture and text once."""
    seen: set[tuple[Path, str]] = set()
    for line in lines:
        line.keep_pixels(notes)
        if (line.image, line.text) in seen:
            notes.skip("texts that a picture has twice")
        elif line.phrases:
            seen.add((line.image, line.text))
            yield line


def by_label(line: Line, labeled: Iterable[tuple[str, Any]], notes: Notes) -> Line:
    """Append every label once, in order of appearance, each with all of its regions."""
    for label, found in grouped(labeled).items():
        if words := " ".join(str(label).split()):
            line.say(words, found)
        else:
            notes.skip("labels without a letter")
    return line


def picture(folder: Path, *names: str) -> Path:
    """Return the file of a folder that a name says, in full or from one of its parts on; else the first name there."""
    parts = [name.replace("\\", "/").split("/") for name in names]
    paths = [folder.joinpath(*steps[first:]) for steps in parts for first in range(len(steps))]
    return next((path for path in paths if path.is_file()), paths[0])


def grouped(labeled: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Return the regions of each label, labels in order of appearance."""
    regions: dict[str, list[Any]] = {}
    for label, region in labeled:
        regions.setdefault(label, []).append(region)
    return regions


def read_bytes(file: Path) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is a folder, or cannot be read.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {file}: check the path") from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}): name the file") from error


def read_words(file: Path) -> str:
    """Return the content of a text file in UTF-8 (errors: `read_bytes`; ValueError for another encoding)."""
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not in UTF-8 ({error}): save it again as UTF-8") from error


def read_json(file: Path) -> Any:
    """Return the content of a JSON file (errors: `read_bytes`; ValueError when it is no JSON, names it)."""
    try:
        return json.loads(read_bytes(file))
    except ValueError as error:
        if str(file) in str(error):
            raise
        raise ValueError(f"{file} is not complete JSON ({error}): export it again") from error


def files_of(source: Path, pattern: str) -> Iterator[Path]:
    """Return a file, or the files of a folder and its folders that match.

    Raises:
        FileNotFoundError: When there is none.
    """
    found = [source] if source.is_file() else sorted(source.rglob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} in {source}: check the path")
    yield from found
