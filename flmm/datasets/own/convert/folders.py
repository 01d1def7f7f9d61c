"""Flickr30k Entities, and a folder of pictures with masks."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flmm.datasets.own.convert.figures import read_xml
from flmm.datasets.own.convert.lines import PICTURES, Line, Notes, by_label, files_of, grouped, read_words


def flickr30k(sentences: Path, annotations: Path, images: Path, notes: Notes) -> Iterator[Line]:
    """Flickr30k Entities: every sentence is a line, its phrases are the entities with boxes."""
    for file in files_of(sentences, "*.txt"):
        root = read_xml(annotations / f"{file.stem}.xml")
        size, boxes = _size(root), _boxes(root)
        for sentence in dict.fromkeys(read_words(file).splitlines()):
            if sentence.strip():
                yield _entities(Line(images / f"{file.stem}.jpg", size=size), sentence, boxes, notes)


_ENTITY = re.compile(r"\[/EN#(\d+)(?:/\S+)* ([^\]]*)\]")


def _entities(line: Line, sentence: str, boxes: dict[str, list[Any]], notes: Notes) -> Line:
    position = 0
    for match in _ENTITY.finditer(sentence):
        line.text += sentence[position : match.start()]
        start = len(line.text)
        line.text += match[2]
        if match[1] in boxes:
            line.add((start, len(line.text)), boxes[match[1]], plural=len(boxes[match[1]]) > 1)
        else:
            notes.skip("entities without a box")
        position = match.end()
    line.text += sentence[position:]
    return line


def _size(root: ET.Element) -> tuple[int, int] | None:
    sides = [int(root.findtext(f"size/{name}", "0")) for name in ("height", "width")]
    return (sides[0], sides[1]) if all(sides) else None


def _boxes(root: ET.Element) -> dict[str, list[Any]]:
    """Return the boxes of each entity of a picture; the file counts pixels from 1, first and last included."""
    found: dict[str, list[Any]] = {}
    for thing in root.iter("object"):
        box = thing.find("bndbox")
        if box is not None:
            left, top, right, bottom = (int(box.findtext(name, "0")) for name in ("xmin", "ymin", "xmax", "ymax"))
            for name in thing.findall("name"):
                found.setdefault(name.text or "", []).append({"box": [left - 1, top - 1, right, bottom]})
    return found


def folder(images: Path, masks: Path, notes: Notes) -> Iterator[Line]:
    """A folder of pictures and one of masks: MASKS/NAME/WORDS.png, or MASKS/NAME__WORDS.png, for picture NAME."""
    for picture in sorted(path for path in images.rglob("*") if path.suffix.lower() in PICTURES):
        if masks in picture.parents:
            continue
        stem = picture.relative_to(images).with_suffix("")
        inside = sorted((masks / stem).glob("*.png"))
        beside = sorted((masks / stem.parent).glob(f"{_escaped(stem.name)}__*.png"))
        found = [(file.stem, {"png": str(file)}) for file in inside]
        found += [(file.stem.partition("__")[2], {"png": str(file)}) for file in beside]
        if not found:
            notes.skip("pictures without a mask")
        text = picture.with_suffix(".txt")
        yield _described(Line(picture), read_words(text).strip() if text.is_file() else "", found, notes)


def _escaped(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)


def _described(line: Line, text: str, found: list[tuple[str, Any]], notes: Notes) -> Line:
    """Phrases of the text that stands beside a picture; without one, the words of its masks are the text."""
    words = [(label.replace("_", " ").rstrip("0123456789 ") or label, region) for label, region in found]
    if not text:
        return by_label(line, words, notes)
    line.text = text
    line.phrases = [{"text": label, "masks": several} for label, several in grouped(words).items()]
    return line
