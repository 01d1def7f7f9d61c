"""What all converters share: a line being built, paths, and writing the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flmm.checkpoint import part_name, publish

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


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
        """Appends words to the text, with what follows them; a phrase when regions are given."""
        start = len(self.text) + bool(self.text)
        self.text = f"{self.text} {words}{stop}" if self.text else f"{words}{stop}"
        if regions is not None:
            self.add((start, start + len(words)), regions, **more)

    def content(self, root: Path) -> dict[str, Any]:
        """Return the line as JSON values; paths start from `root`."""
        size = {} if self.size is None else {"height": self.size[0], "width": self.size[1]}
        phrases = [{**phrase, "masks": [_below(region, root) for region in phrase["masks"]]} for phrase in self.phrases]
        return {"image": relative(self.image, root), "text": self.text, **size, "phrases": phrases}


def _below(region: Any, root: Path) -> Any:
    """Return a region whose PNG, if it is one, is named from the root."""
    if isinstance(region, dict) and "png" in region:
        return {**region, "png": relative(Path(region["png"]), root)}
    return region


@dataclass
class Notes:
    """What a conversion left out, counted by reason."""

    counts: Counter[str] = field(default_factory=Counter)

    def skip(self, reason: str) -> None:
        """Count one thing that is left out."""
        self.counts[reason] += 1


def relative(path: Path, root: Path) -> str:
    """Return a path as written in the file.

    Raises:
        ValueError: When the file is not below the root.
    """
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise ValueError(
            f"{path} is not below {root}: write --out into a folder that holds the pictures too, or give such a "
            "folder as --root, to the converter and to OwnDataset"
        ) from None


def write_lines(lines: Iterable[Line], out: Path, root: Path) -> int:
    """Write lines that have a phrase; the file appears when all of them are written.

    Returns:
        The number of lines.

    Raises:
        ValueError: A picture is not below the root, or there is no line.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part, count = part_name(out), 0
    try:
        with part.open("w", encoding="utf-8") as file:
            for line in lines:
                if line.phrases:
                    file.write(json.dumps(line.content(root), ensure_ascii=False) + "\n")
                    count += 1
        if not count:
            raise ValueError(f"nothing to write into {out}: no picture has a phrase with a mask")
        publish(part, out)
    finally:
        part.unlink(missing_ok=True)
    return count


def by_label(line: Line, labeled: Iterable[tuple[str, Any]]) -> Line:
    """Appends every label once, in order of appearance, each with all of its regions."""
    for label, found in grouped(labeled).items():
        line.say(label, found)
    return line


def grouped(labeled: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Return the regions of each label, labels in order of appearance."""
    regions: dict[str, list[Any]] = {}
    for label, region in labeled:
        regions.setdefault(label, []).append(region)
    return regions


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no JSON; names it.
    """
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {file}: check the path") from error
    except ValueError as error:
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
