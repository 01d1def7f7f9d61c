"""Annotation files (and pictures) of COCO's size and formats without COCO's content, the same in every run.

Counts are those of the real files; captions, expressions, polygons and ids are drawn at random.
"""

from __future__ import annotations

import json
import math
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from flmm.constants import REFCOCO

WIDTH, HEIGHT = 640, 480
VOCABULARY = """
man woman child dog horse table chair plate bottle window building tree grass sky wall road car bus train bench bag cup
bowl laptop book clock shelf person people group field water sand snow mountain left right red blue green white black
brown wooden large small standing sitting holding wearing walking riding looking beside behind front there background
this image picture can see which with and the a on in of near some many few
"""
WORDS = VOCABULARY.split()
CATEGORIES = [{"id": i, "name": WORDS[i % 40], "supercategory": "x", "isthing": int(i <= 80)} for i in range(1, 134)]
INFO = {"description": "made by scripts/benchmark/data.py"}


class Refs(NamedTuple):
    """One RefCOCO; expressions are per object, words per expression, images and objects by split."""

    annotations: int
    expressions: float
    words: int
    splits: dict[str, tuple[int, int]]


class Sizes(NamedTuple):
    """How many of everything; the defaults are those of the real files."""

    captions: int = 134_272
    panoptic_images: int = 118_287
    refcoco: dict[str, Refs] = {
        "refcoco": Refs(196_771, 2.84, 3, {"train": (16_994, 42_404), "rest": (3_000, 7_596)}),
        "refcoco+": Refs(196_737, 2.84, 3, {"train": (16_992, 42_278), "rest": (3_000, 7_578)}),
        "refcocog": Refs(208_960, 1.91, 8, {"train": (21_899, 42_226), "rest": (3_900, 7_596)}),
    }

    def scaled(self, scale: float) -> Sizes:
        """A part of everything."""
        refcoco = {
            name: refs._replace(
                annotations=int(scale * refs.annotations),
                splits={split: (int(scale * i), int(scale * o)) for split, (i, o) in refs.splits.items()},
            )
            for name, refs in self.refcoco.items()
        }
        return Sizes(int(scale * self.captions), int(scale * self.panoptic_images), refcoco)

    @classmethod
    def small(cls, count: int) -> Sizes:
        """As many images of each kind, for which pictures are drawn too; one RefCOCO."""
        return cls(count, count, {"refcoco": Refs(10 * count, 2.84, 3, {"train": (count, 5 * count // 2)})})


def write_annotations(root: Path, sizes: Sizes) -> None:
    """All annotation files below `root`, laid out like data/coco."""
    annotations = root / "annotations"
    annotations.mkdir(parents=True)
    segments = write_panoptic(annotations / "panoptic_train2017.json", sizes.panoptic_images)
    write_captions(annotations / "png_coco_train2017.json", sizes.captions, segments)
    for name, refs in sizes.refcoco.items():
        (root / name).mkdir()
        write_refcoco(root / name, refs)


def write_pictures(root: Path) -> None:
    """A 640 x 480 picture for every image that the annotations name, and panoptic PNGs."""
    panoptic = json.loads((root / "annotations/panoptic_train2017.json").read_text())
    refcoco = json.loads((root / "refcoco/instances.json").read_text())
    for folder, images in (("train2017", panoptic["images"]), ("train2014", refcoco["images"])):
        (root / folder).mkdir()
        for image in images:
            draw(image["id"]).save(root / folder / image["file_name"], quality=90)
    maps = root / "annotations/panoptic_train2017"
    maps.mkdir()
    for annotation in panoptic["annotations"]:
        ids = [segment["id"] for segment in annotation["segments_info"]]
        segment_map(ids, annotation["image_id"]).save(maps / annotation["file_name"])


def write_panoptic(path: Path, images: int) -> dict[int, list[int]]:
    """Writes a panoptic annotation; returns the segment ids of each image."""
    rng = random.Random(1)
    segments = {image: rng.sample(range(1, 2**24), rng.randint(4, 18)) for image in range(1, images + 1)}
    content = {
        "info": INFO,
        "images": [image_entry(i, f"{i:012d}.jpg", "train2017") for i in segments],
        "annotations": [panoptic_annotation(rng, i, ids) for i, ids in segments.items()],
        "categories": CATEGORIES,
    }
    path.write_text(json.dumps(content))
    return segments


def panoptic_annotation(rng: random.Random, image: int, ids: list[int]) -> dict[str, Any]:
    infos = [
        {"id": i, "category_id": rng.randint(1, 133), "iscrowd": 0, "bbox": box(rng), "area": rng.randint(100, 90_000)}
        for i in ids
    ]
    return {"segments_info": infos, "file_name": f"{image:012d}.png", "image_id": image}


def write_captions(path: Path, captions: int, segments: dict[int, list[int]]) -> None:
    rng = random.Random(2)
    images = [1 + i % len(segments) for i in range(captions)]
    rng.shuffle(images)
    path.write_text(json.dumps([caption(rng, image, segments[image]) for image in images]))


def caption(rng: random.Random, image: int, ids: list[int]) -> dict[str, Any]:
    """About 40 words with 7 nouns, 5.1 of them grounded: the mean of Panoptic Narrative Grounding."""
    pieces = []
    for _ in range(rng.randint(4, 10)):
        pieces.append(piece(words(rng, rng.randint(2, 5))))
        grounded = rng.random() < 5.1 / 7
        plural = grounded and rng.random() < 0.15
        chosen = rng.sample(ids, rng.randint(2, 4) if plural else 1) if grounded else []
        pieces.append(piece(words(rng, rng.randint(1, 3)), chosen, True, plural))
    pieces.append(piece("."))
    text = " ".join(piece["utterance"] for piece in pieces)
    return {"image_id": str(image), "caption": text, "segments": pieces}


def piece(text: str, ids: Sequence[int] = (), noun: bool = False, plural: bool = False) -> dict[str, Any]:
    return {"utterance": text, "segment_ids": [str(i) for i in ids], "noun": noun, "plural": plural}


def write_refcoco(root: Path, sizes: Refs) -> None:
    rng = random.Random(3)
    images = sum(count for count, _ in sizes.splits.values())
    names = {i: f"COCO_train2014_{i:012d}.jpg" for i in range(1, images + 1)}
    content = {
        "info": INFO,
        "images": [image_entry(i, name, "train2014") for i, name in names.items()],
        "annotations": [instance(rng, i, 1 + i % images) for i in range(sizes.annotations)],
        "categories": CATEGORIES[:80],
    }
    (root / "instances.json").write_text(json.dumps(content))
    refs: list[dict[str, Any]] = []
    start = 0
    for split, (count, objects) in sizes.splits.items():
        for i in range(objects):  # the annotations of image j are j - 1, j - 1 + images, ...
            image = 1 + start + i % count
            ids = {"ref_id": len(refs), "ann_id": image - 1 + images * (i // count), "image_id": image}
            refs.append({**ids, **reference(rng, len(refs), names[image], sizes), "category_id": 1, "split": split})
        start += count
    split_file, _ = REFCOCO[root.name]
    (root / split_file).write_bytes(pickle.dumps(refs, protocol=0))  # as the published files, of Python 2


def instance(rng: random.Random, annotation: int, image: int) -> dict[str, Any]:
    return {
        "segmentation": [polygon(rng) for _ in range(rng.choice((1, 1, 1, 1, 2)))],
        "area": round(rng.uniform(500, 90_000), 4),
        "iscrowd": 0,
        "image_id": image,
        "bbox": [float(side) for side in box(rng)],
        "category_id": rng.randint(1, 80),
        "id": annotation,
    }


def polygon(rng: random.Random) -> list[float]:
    """x, y of about 22 corners around a centre."""
    x, y, radius = rng.uniform(80, WIDTH - 80), rng.uniform(80, HEIGHT - 80), rng.uniform(20, 80)
    angles = sorted(rng.uniform(0, 6.28) for _ in range(rng.randint(8, 36)))
    corners = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
    return [round(value, 2) for corner in corners for value in corner]


def reference(rng: random.Random, ref: int, name: str, sizes: Refs) -> dict[str, Any]:
    count = int(sizes.expressions) + (rng.random() < sizes.expressions % 1)
    texts = [words(rng, rng.randint(1, 2 * sizes.words)) for _ in range(count)]
    sentences = [{"raw": t, "sent": t, "sent_id": 4 * ref + i, "tokens": t.split()} for i, t in enumerate(texts)]
    return {
        "file_name": name.replace(".jpg", f"_{ref}.jpg"),
        "sentences": sentences,
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
    }


def image_entry(number: int, name: str, folder: str) -> dict[str, Any]:
    return {
        "license": 3,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/{folder}/{name}",
        "height": HEIGHT,
        "width": WIDTH,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010d}_fa5a22ae29_z.jpg",
        "id": number,
    }


def box(rng: random.Random) -> list[int]:
    return [rng.randrange(500), rng.randrange(400), rng.randint(5, 140), rng.randint(5, 80)]


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


def draw(seed: int) -> Image.Image:
    """Blurred noise with some grain: about as many bytes as a photo of that size."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8))


def segment_map(ids: list[int], seed: int) -> Image.Image:
    """A panoptic PNG: every pixel belongs to the nearest of as many random points as there are segments."""
    rng = np.random.default_rng(seed)
    x, y = rng.choice(WIDTH, len(ids), replace=False), rng.choice(HEIGHT, len(ids))
    columns, rows = np.arange(WIDTH), np.arange(HEIGHT)
    distance = (columns[None, None] - x[:, None, None]) ** 2 + (rows[None, :, None] - y[:, None, None]) ** 2
    values = np.asarray(ids)[distance.argmin(0)]
    return Image.fromarray(np.stack([values % 256, values // 256 % 256, values // 65536], -1).astype(np.uint8))
