"""COCO: instances with captions or without, Panoptic Narrative Grounding, RefCOCO."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flmm.datasets.captions import read_captions
from flmm.datasets.own.convert.lines import Line, Notes, by_label, grouped, read_json
from flmm.datasets.refcoco import read_instances, read_refs
from flmm.datasets.regions import as_rle


def instances(file: Path, images: Path, notes: Notes, captions: Path | None = None) -> Iterator[Line]:
    """COCO instances; every caption is a line, its phrases are the categories it names, whole words or plurals.

    Without captions the text lists the categories of a picture.
    """
    content = _coco(file, ("images", "annotations", "categories"))
    names = {category["id"]: category["name"] for category in content["categories"]}
    said: dict[int, list[str]] = {}
    for caption in _coco(captions, ("annotations",))["annotations"] if captions else ():
        said.setdefault(caption["image_id"], []).append(caption["caption"].strip())
    found: dict[int, list[tuple[str, Any]]] = {}
    for annotation in content["annotations"]:
        if region := _region(annotation, file, notes):
            found.setdefault(annotation["image_id"], []).append((_name(annotation, names, file), region))
    for image in content["images"]:
        size, labeled = (image["height"], image["width"]), found.get(image["id"], [])
        if captions is None:
            yield by_label(Line(images / image["file_name"], size=size), labeled, notes)
            continue
        for text in dict.fromkeys(said.get(image["id"], [])):
            line = _mentions(Line(images / image["file_name"], text, size=size), labeled)
            if not line.phrases:
                notes.skip("captions that name no annotated category")
            yield line


def _coco(file: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise ValueError(f"{file} is no annotation file of COCO: it must hold the lists {', '.join(keys)}")
    return content


def _name(annotation: dict[str, Any], names: dict[int, str], file: Path) -> str:
    try:
        return names[annotation["category_id"]]
    except KeyError as error:
        raise ValueError(f"{file}, annotation {annotation.get('id')}: no category {error} in `categories`") from None


def _region(annotation: dict[str, Any], file: Path, notes: Notes) -> Any:
    """Return the segmentation, else the box, of an annotation; None when it has neither."""
    if annotation.get("iscrowd"):
        notes.skip("crowds")
        return None
    if segmentation := _drawable(annotation.get("segmentation")):
        return segmentation
    if annotation.get("bbox"):
        x, y, width, height = annotation["bbox"]
        return {"box": [x, y, x + width, y + height]}
    notes.skip(f"annotations of {file.name} without a mask or box")
    return None


def _drawable(segmentation: Any) -> Any:
    """Return a segmentation without the polygons of one or two points that some files have."""
    if not isinstance(segmentation, list):
        return segmentation
    return [part for part in segmentation if not isinstance(part, list) or len(part) >= 6]


def _mentions(line: Line, labeled: list[tuple[str, Any]]) -> Line:
    """Add the categories that a caption names as phrases, longer names first, each place once."""
    regions = grouped(labeled)
    taken: list[tuple[int, int]] = []
    for name in sorted(regions, key=len, reverse=True):
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", line.text, re.IGNORECASE):
            start, end = match.span()
            if not any(start < last and first < end for first, last in taken):
                taken.append((start, end))
                line.add((start, end), regions[name])
    return line


def panoptic(captions: Path, segments: Path, pngs: Path, images: Path) -> Iterator[Line]:
    """Panoptic Narrative Grounding: every narrative is a line, masks are segments of the panoptic PNGs."""
    for caption in read_captions(captions, segments):
        line = Line(images / caption.file_name)
        for segment in caption.segments:
            words = segment.words.strip()
            if segment.is_phrase:
                regions: list[Any] = [{"png": str(pngs / caption.segm_file), "id": i} for i in segment.ids]
                line.say(words, regions, stop="", plural=segment.plural, isthing=segment.isthing)
            elif words:
                line.say(words, stop="")
        yield line


def refcoco(instances_file: Path, refs: Path, images: Path, notes: Notes, split: str) -> Iterator[Line]:
    """RefCOCO: every picture of a split is a line, every expression a phrase and a full stop.

    gRefCOCO's grefs(...).json are read as well: an expression may have several objects there, or none.
    """
    pictures, objects = read_instances(instances_file)
    chosen = [
        ref for ref in (read_json if refs.suffix == ".json" else read_refs)(refs) if split in ("all", ref["split"])
    ]
    if not chosen:
        raise ValueError(f"{refs} has no reference of the split {split!r}: use `all`, train, val or test")
    lines: dict[int, Line] = {}
    for ref in chosen:
        image, ids = pictures.get(ref["image_id"]), _objects(ref)
        if image is None or not objects.keys() >= set(ids):
            notes.skip("references to a picture or object that is not annotated")
            continue
        size = (image.height, image.width)
        line = lines.setdefault(image.id, Line(images / image.file_name, size=size))
        regions = [as_rle(objects[i].shape, size) for i in ids]
        for sentence in ref["sentences"]:
            if words := sentence["raw"].strip().rstrip("."):
                line.say(words, regions)
    yield from lines.values()


def _objects(ref: dict[str, Any]) -> list[int]:
    """Return the objects of a reference; gRefCOCO has lists of them, and -1 for none."""
    ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
    return [] if ref.get("no_target") else [i for i in ids if i != -1]
