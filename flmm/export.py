"""Groundings as files for other programs: masks as PNG, COCO's JSON, lines in the format of docs/own_data.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from flmm.boxes import object_boxes
from flmm.grounding import Grounding
from flmm.masks import decode_mask, encode_mask

LONGEST_NAME = 40  # letters of a phrase in the name of its file


def save_masks(entry: Mapping[str, Any], folder: str | Path, name: str) -> list[Path]:
    """Write each mask as a PNG of the picture's size, 255 inside and 0 outside.

    Args:
        entry: Of `as_entry`.
        folder: Made when it is not there.
        name: Of the picture; a file is NAME_INDEX_PHRASE.png.

    Returns:
        The files, in the order of the phrases.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, phrase in enumerate(entry["phrases"]):
        start, end = phrase["span"]
        words = re.sub(r"\W+", "_", entry["text"][start:end])[:LONGEST_NAME].strip("_")
        files.append(folder / f"{name}_{index}_{words}.png")
        rle = phrase["mask"]
        mask = decode_mask(rle) if rle else np.zeros((entry["height"], entry["width"]), dtype=bool)
        Image.fromarray(mask.astype(np.uint8) * 255).save(files[-1])
    return files


def as_entry(grounding: Grounding, image: str) -> dict[str, Any]:
    """Return a grounding as a line of docs/own_data.md, with a `score` for each phrase.

    Args:
        grounding: What was found.
        image: Path of the picture, as it is to stand in the line.
    """
    found = zip(grounding.spans, grounding.masks, grounding.scores, strict=True)
    phrases = [
        {"span": list(span), "mask": encode_mask(mask) if mask.any() else None, "score": round(float(score), 4)}
        for span, mask, score in found
    ]
    size = {"height": grounding.image.height, "width": grounding.image.width}
    return {"image": image, "text": grounding.text, **size, "phrases": phrases}


def as_coco(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return entries of `as_entry` as an instances file of COCO.

    A category is a phrase in small letters. Boxes leave out specks (`flmm.boxes`); an empty mask is no annotation.
    """
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    for entry in entries:
        size = {"height": entry["height"], "width": entry["width"]}
        image = images.setdefault(entry["image"], {"id": len(images) + 1, "file_name": entry["image"], **size})
        for phrase in entry["phrases"]:
            start, end = phrase["span"]
            category = categories.setdefault(entry["text"][start:end].lower(), len(categories) + 1)
            if phrase["mask"] is not None:
                kept = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category}
                annotations.append({**kept, **_shape(phrase["mask"]), "score": phrase["score"], "iscrowd": 0})
    names = [{"id": number, "name": name} for name, number in categories.items()]
    return {"images": list(images.values()), "annotations": annotations, "categories": names}


def _shape(rle: Mapping[str, Any]) -> dict[str, Any]:
    """Mask, area and box [x, y, width, height] of an annotation."""
    x0, y0, x1, y1 = object_boxes(decode_mask(rle)[None])[0].tolist()
    return {"segmentation": rle, "area": int(coco.area(rle)), "bbox": [x0, y0, x1 - x0, y1 - y0]}
