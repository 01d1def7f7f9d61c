"""Flickr30k Entities, and a folder of pictures with masks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flmm.datasets.own.convert.figures import read_xml
from flmm.datasets.own.convert.lines import PICTURES, Line, Notes, by_label, files_of, grouped


def flickr30k(sentences: Path, annotations: Path, images: Path, notes: Notes) -> Iterator[Line]:
    """Flickr30k Entities: every sentence is a line, its phrases are the entities with boxes."""
    for file in files_of(sentences, "*.txt"):
        boxes = _boxes(annotations / f"{file.stem}.xml")
        for sentence in dict.fromkeys(file.read_text(encoding="utf-8").splitlines()):
            if sentence.strip():
                yield _entities(Line(images / f"{file.stem}.jpg"), sentence, boxes, notes)


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


def _boxes(file: Path) -> dict[str, list[Any]]:
    """Return the boxes of each entity of a picture."""
    found: dict[str, list[Any]] = {}
    for thing in read_xml(file).iter("object"):
        box = thing.find("bndbox")
        if box is not None:
            sides = [int(box.findtext(name, "0")) for name in ("xmin", "ymin", "xmax", "ymax")]
            for name in thing.findall("name"):
                found.setdefault(name.text or "", []).append({"box": sides})
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
        yield _described(Line(picture), text.read_text(encoding="utf-8").strip() if text.is_file() else "", found)


def _escaped(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)


def _described(line: Line, text: str, found: list[tuple[str, Any]]) -> Line:
    """Phrases of the text that stands beside a picture; without one, the words of its masks are the text."""
    words = [(label.replace("_", " ").rstrip("0123456789 ") or label, region) for label, region in found]
    if not text:
        return by_label(line, words)
    line.text = text
    line.phrases = [{"text": label, "masks": several} for label, several in grouped(words).items()]
    return line
