"""The shapes data set's questions, and its files in the formats of VisCoT, ReasonSeg and GranD-f."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flmm.datasets.shapes.captions import caption, text_of
from flmm.datasets.shapes.drawing import outline
from flmm.datasets.shapes.implicit import Query, sample_query, wordings
from flmm.datasets.shapes.picture import Picture
from flmm.datasets.shapes.questions import QUESTION_KINDS, Question, sample_question, sign_question
from flmm.datasets.shapes.scene import FIRST_SHAPE, Scene
from flmm.datasets.visual_cot import ASKS_FOR_BOX

Entry = dict[str, Any]
VISCOT = "cot/signs.json"
_REASONSEG_TRAIN = 200  # pictures


def write_questions(root: Path, split: str, pictures: Sequence[Picture]) -> None:
    """`annotations/questions_<split>2017.json`: a question of each kind per picture, where its scene allows one."""
    questions = [
        {
            "image_id": picture.image_id,
            "kind": question.kind,
            "question": question.text,
            "answer": question.answer,
            "segment_ids": [str(picture.segment_ids[region]) for region in question.regions],
        }
        for picture in pictures
        for question in picture_questions(picture.scene)
    ]
    numbered = [{"question_id": number, **question} for number, question in enumerate(questions)]
    content = {"images": [picture.info for picture in pictures], "questions": numbered}
    (root / "annotations" / f"questions_{split}2017.json").write_text(json.dumps(content))


def picture_questions(scene: Scene) -> list[Question]:
    """Return a question of each kind that the scene allows."""
    rng = random.Random(scene.seed)
    return [q for kind in QUESTION_KINDS if (q := sample_question(scene, rng, kind))]


def sign_questions(scene: Scene) -> list[Question]:
    """Return a question for each sign that words can point at."""
    rng = random.Random(scene.seed)
    return [q for index in range(len(scene.shapes)) if (q := sign_question(scene, index, rng))]


def write_viscot(root: Path, pictures: Sequence[Picture]) -> None:
    """`cot/signs.json`: VisCoT's benchmark format; pictures are named relative to the data set's root."""
    asked = [(picture, question) for picture in pictures for question in sign_questions(picture.scene)]
    items = [_viscot_item(root, number, *pair) for number, pair in enumerate(asked)]
    (root / VISCOT).parent.mkdir()
    (root / VISCOT).write_text(json.dumps(items, indent=1))


def _viscot_item(root: Path, number: int, picture: Picture, question: Question) -> Entry:
    path = picture.file.relative_to(root).as_posix()
    x, y, width, height = picture.box(question.regions[0])
    box = [x, y, x + width, y + height]
    turns = [
        ("human", f"<image>\n{question.text} {ASKS_FOR_BOX}"),
        ("gpt", str(_in_square(box, picture.scene))),
        ("human", "<image>"),
        ("gpt", question.answer),
    ]
    return {
        "dataset": "signs",
        "split": "val",
        "question_id": number,
        "image": [path, f"{path}###{box}"],
        "conversations": [{"from": who, "value": text} for who, text in turns],
    }


def _in_square(box: list[int], scene: Scene) -> list[float]:
    """Return a box in pixels, in shares of the square that the picture is padded to."""
    side = max(scene.width, scene.height)
    before = ((side - scene.width) / 2, (side - scene.height) / 2) * 2
    return [round((value + margin) / side, 3) for value, margin in zip(box, before, strict=True)]


def write_reasonseg(root: Path, splits: Mapping[str, Sequence[Picture]]) -> None:
    """`ReasonSeg/{train,val,test}`: pictures with LISA's polygons; half of the validation pictures are its test."""
    val = splits["val"]
    parts = {"train": splits["train"][:_REASONSEG_TRAIN], "val": val[::2], "test": val[1::2]}
    for name, pictures in parts.items():
        folder = root / "ReasonSeg" / name
        folder.mkdir(parents=True)
        for position, picture in enumerate(pictures):
            shutil.copyfile(picture.file, folder / picture.file.name)
            query = picture_query(picture.scene, is_sentence=position % 2 == 1)
            content = {"text": wordings(query), "is_sentence": query.is_sentence, "shapes": _polygons(picture, query)}
            (folder / f"{picture.file.stem}.json").write_text(json.dumps(content))


def picture_query(scene: Scene, is_sentence: bool) -> Query:
    """Return the implicit query about a scene."""
    return sample_query(scene, random.Random(scene.seed), is_sentence)


def _polygons(picture: Picture, query: Query) -> list[Entry]:
    """Return the target, and what lies on a target band as regions to ignore."""
    scene, region = picture.scene, query.regions[0]
    if region >= FIRST_SHAPE:
        return [_polygon("target", outline(scene.shapes[region - FIRST_SHAPE]))]
    left, right = (scene.horizon + scene.slope * (x - scene.width / 2) for x in (0, scene.width))
    edge = 0 if region == 0 else scene.height - 1
    band = [(0, left), (scene.width - 1, right), (scene.width - 1, edge), (0, edge)]
    ignored = [_polygon("ignore", outline(scene.shapes[i])) for i in scene.members(region)]
    return [_polygon("target", band), *ignored]


def _polygon(label: str, points: Sequence[tuple[float, float]]) -> Entry:
    return {"label": label, "points": [[round(x, 1), round(y, 1)] for x, y in points]}


def write_gcg(root: Path, splits: Mapping[str, Sequence[Picture]]) -> None:
    """`GranDf` and `GranDf_HA_images`: captions with a mask per phrase; half of the validation pictures are test."""
    folder, images = root / "GranDf/annotations", root / "GranDf_HA_images/val_test"
    (folder / "val_test").mkdir(parents=True)
    (folder / "train").mkdir()
    images.mkdir(parents=True)
    for name, pictures in (("val", splits["val"][::2]), ("test", splits["val"][1::2])):
        captions, masks = _gcg_captions(root, pictures), _gcg_masks(root, pictures)
        (folder / "val_test" / f"{name}_gcg_coco_caption_gt.json").write_text(json.dumps(captions))
        (folder / "val_test" / f"{name}_gcg_coco_mask_gt.json").write_text(json.dumps(masks))
        for picture in pictures:
            shutil.copyfile(picture.file, images / f"{_gcg_id(picture)}.jpg")
    train = [_gcg_train(picture) for picture in splits["train"]]
    (folder / "train/GranDf_HA_GCG_train.json").write_text(json.dumps(train))


def _gcg_id(picture: Picture) -> str:
    return f"shapes_{picture.image_id}"


def _gcg_images(root: Path, pictures: Sequence[Picture]) -> list[Entry]:
    return [{**p.info, "id": _gcg_id(p), "file_name": p.file.relative_to(root).as_posix()} for p in pictures]


def _gcg_captions(root: Path, pictures: Sequence[Picture]) -> Entry:
    annotations = [
        {
            "id": number,
            "image_id": _gcg_id(picture),
            "caption": text_of(caption(picture.scene)),
            "labels": [segment.utterance for segment in caption(picture.scene) if segment.regions],
        }
        for number, picture in enumerate(pictures)
    ]
    return {"images": _gcg_images(root, pictures), "annotations": annotations}


def _gcg_masks(root: Path, pictures: Sequence[Picture]) -> Entry:
    phrases = [(picture, s.regions) for picture in pictures for s in caption(picture.scene) if s.regions]
    annotations = [
        {
            "id": number,
            "image_id": _gcg_id(picture),
            "category_id": 1,
            "segmentation": picture.union(regions),
            "area": sum(picture.area(region) for region in regions),
            "bbox": _bounds([picture.box(region) for region in regions]),
            "iscrowd": 0,
        }
        for number, (picture, regions) in enumerate(phrases)
    ]
    categories = [{"id": 1, "name": "object"}]
    return {"images": _gcg_images(root, pictures), "annotations": annotations, "categories": categories}


def _bounds(boxes: list[list[int]]) -> list[int]:
    """COCO's box around boxes."""
    x, y = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return [x, y, max(b[0] + b[2] for b in boxes) - x, max(b[1] + b[3] for b in boxes) - y]


def _gcg_train(picture: Picture) -> Entry:
    groundings, start = {}, 0
    for segment in caption(picture.scene):
        if segment.regions:
            end = start + len(segment.utterance)
            masks = [picture.masks[region] for region in segment.regions]
            groundings[segment.utterance] = {"token_positives": [start, end], "rle_masks": masks}
        start += len(segment.utterance) + 1
    return {**picture.info, "caption": text_of(caption(picture.scene)), "groundings": groundings}
