"""The shapes data set's annotations in the files of COCO, COCO panoptic, Panoptic Narrative Grounding and RefCOCO."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flmm.constants import REFCOCO
from flmm.datasets.shapes.captions import Segment, caption, text_of
from flmm.datasets.shapes.expressions import expressions
from flmm.datasets.shapes.free_texts import free_text, shuffled
from flmm.datasets.shapes.picture import Picture
from flmm.datasets.shapes.scene import FIRST_SHAPE, SHAPES, STUFF, Scene

THINGS = {name: 1 + index for index, name in enumerate(SHAPES)}
STUFFS = {name: 101 + index for index, name in enumerate(STUFF)}
_FREE_TEXTS = 2  # per picture, beside the caption and its phrases in random order
Entry = dict[str, Any]


def write_split(root: Path, split: str, pictures: Sequence[Picture]) -> None:
    """The three annotation files of one split."""
    images = [picture.info for picture in pictures]
    instances = [instance for picture in pictures for instance in _instances(picture)]
    files = {
        f"instances_{split}2017": {"images": images, "annotations": instances, "categories": _categories(stuff=False)},
        f"panoptic_{split}2017": {
            "images": images,
            "annotations": [_panoptic(picture) for picture in pictures],
            "categories": _categories(stuff=True),
        },
        # all captions first, then all phrases in random order, ...: the first entries are different pictures
        f"png_coco_{split}2017": [text for texts in zip(*map(_narratives, pictures), strict=True) for text in texts],
    }
    for name, content in files.items():
        (root / "annotations" / f"{name}.json").write_text(json.dumps(content))


def _categories(stuff: bool) -> list[Entry]:
    things = [{"id": i, "name": n, "supercategory": "shape", "isthing": 1} for n, i in THINGS.items()]
    stuffs = [{"id": i, "name": n, "supercategory": "stuff", "isthing": 0} for n, i in STUFFS.items()]
    return things + stuffs if stuff else things


def _panoptic(picture: Picture) -> Entry:
    scene = picture.scene
    categories = [STUFFS[name] for name in scene.stuff] + [THINGS[shape.kind] for shape in scene.shapes]
    segments = [
        {"id": i, "category_id": category, "area": picture.area(region), "bbox": picture.box(region), "iscrowd": 0}
        for region, (i, category) in enumerate(zip(picture.segment_ids, categories, strict=True))
    ]
    return {"image_id": picture.image_id, "file_name": f"{picture.file.stem}.png", "segments_info": segments}


def _narratives(picture: Picture) -> list[Entry]:
    """The caption, its phrases in random order and two others."""
    scene, rng = picture.scene, random.Random(picture.scene.seed)
    texts = [caption(scene), shuffled(scene, rng), *(free_text(scene, rng) for _ in range(_FREE_TEXTS))]
    return [_narrative(picture, text) for text in texts]


def _narrative(picture: Picture, text: list[Segment]) -> Entry:
    segments = [
        {
            "utterance": segment.utterance,
            "segment_ids": [str(picture.segment_ids[region]) for region in segment.regions],
            "plural": segment.plural,
            "noun_vector": [],
        }
        for segment in text
    ]
    return {"image_id": str(picture.image_id), "caption": text_of(text), "segments": segments}


def _instances(picture: Picture) -> list[Entry]:
    return [
        {
            "id": picture.image_id * 10 + index,
            "image_id": picture.image_id,
            "category_id": THINGS[shape.kind],
            "segmentation": picture.masks[FIRST_SHAPE + index],
            "area": float(picture.area(FIRST_SHAPE + index)),
            "bbox": [float(v) for v in picture.box(FIRST_SHAPE + index)],
            "iscrowd": 0,
        }
        for index, shape in enumerate(picture.scene.shapes)
    ]


def write_refcoco(root: Path, splits: Mapping[str, Sequence[Picture]]) -> None:
    """`instances.json` and the pickled references of each variant, and their pictures under the names of 2014."""
    pictures = [picture for split in splits.values() for picture in split]
    instances = {
        "images": [{**picture.info, "file_name": _name_2014(picture)} for picture in pictures],
        "annotations": [instance for picture in pictures for instance in _instances(picture)],
        "categories": _categories(stuff=False),
    }
    text = json.dumps(instances)
    for variant, (pickle_name, held_out) in REFCOCO.items():
        (root / variant).mkdir()
        refs = [ref for name, picture in _shared_out(splits, held_out) for ref in _references(picture, variant, name)]
        (root / variant / pickle_name).write_bytes(pickle.dumps(_numbered(refs), protocol=4))
        (root / variant / "instances.json").write_text(text)
    (root / "train2014").mkdir()
    for picture in pictures:
        shutil.copyfile(picture.file, root / "train2014" / _name_2014(picture))


def _shared_out(splits: Mapping[str, Sequence[Picture]], held_out: tuple[str, ...]) -> list[tuple[str, Picture]]:
    """Each picture with the name of its split; the held-out splits share out the validation pictures."""
    val = splits["val"]
    shares = [(held_out[i * len(held_out) // len(val)], picture) for i, picture in enumerate(val)]
    return [("train", picture) for picture in splits["train"]] + shares


def _references(picture: Picture, variant: str, split: str) -> list[Entry]:
    """One reference per shape that can be told apart; ids are given later."""
    return [
        {
            "ann_id": picture.image_id * 10 + index,
            "image_id": picture.image_id,
            "category_id": THINGS[shape.kind],
            "file_name": _name_2014(picture),
            "split": split,
            "sentences": [{"raw": text, "sent": text, "tokens": text.split()} for text in texts],
        }
        for index, shape in enumerate(picture.scene.shapes)
        if (texts := sentences(picture.scene, index, variant))
    ]


def sentences(scene: Scene, index: int, variant: str) -> list[str]:
    """Up to three expressions for a shape: any, by looks only (RefCOCO+), the longest (RefCOCOg)."""
    choices = expressions(scene, index, locations=variant != "refcoco+")
    if variant == "refcocog":
        return sorted(choices, key=len)[-2:]
    rng = np.random.default_rng([scene.seed, 3, index])
    return [choices[i] for i in rng.permutation(len(choices))[:3]]


def _numbered(refs: list[Entry]) -> list[Entry]:
    sent_id = 0
    for ref_id, ref in enumerate(refs):
        ref["ref_id"] = ref_id
        for sentence in ref["sentences"]:
            sentence["sent_id"] = sent_id
            sent_id += 1
        ref["sent_ids"] = [sentence["sent_id"] for sentence in ref["sentences"]]
    return refs


def _name_2014(picture: Picture) -> str:
    return f"COCO_train2014_{picture.file.name}"
