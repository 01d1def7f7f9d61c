"""The shapes data set in the formats of VisCoT, ReasonSeg and GranD-f."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from flmm.datasets.shapes import make_shapes
from flmm.datasets.shapes.drawing import render
from flmm.datasets.shapes.scene import FIRST_SHAPE, sample_scene
from flmm.datasets.shapes.talk_files import picture_query

VAL = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", train=4, val=VAL, seed=2, workers=1)


def test_viscot_items_are_in_the_published_format(root):
    items = json.loads((root / "cot/signs.json").read_text())
    assert len(items) > 8
    assert [item["question_id"] for item in items] == list(range(len(items)))
    for item in items:
        assert set(item) == {"dataset", "split", "question_id", "image", "conversations"}
        path, boxed = item["image"]
        width, height = Image.open(root / path).size
        name, numbers = boxed.split("###")
        assert name == path
        box = json.loads(numbers)
        assert all(isinstance(v, int) for v in box)
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
        turns = item["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * 2
        assert turns[0]["value"].startswith("<image>\n")
        assert turns[0]["value"].endswith(
            "? Please provide the bounding box coordinate of the region that can help you answer the question better."
        )
        side = max(width, height)
        margins = np.array([side - width, side - height] * 2) / 2
        assert np.allclose(json.loads(turns[1]["value"]), (np.array(box) + margins) / side, atol=6e-4)
        assert turns[2]["value"] == "<image>"


def test_viscot_answers_are_the_signs_in_their_boxes(root):
    for item in json.loads((root / "cot/signs.json").read_text()):
        scene = sample_scene(int(re.search(r"(\d+)\.jpg", item["image"][0])[1]) - 1)
        x0, y0, x1, y1 = json.loads(item["image"][1].split("###")[1])
        inside = [s.sign for s in scene.shapes if x0 < s.x < x1 and y0 < s.y < y1]
        assert inside == [item["conversations"][3]["value"]]


def painted(content, height, width):
    """LISA's mask: 1 target, 255 ignored, small polygons over large ones."""
    drawn = []
    for shape in content["shapes"]:
        mask = np.zeros((height, width), np.uint8)
        points = np.array([shape["points"]], np.int32)
        cv2.polylines(mask, points, True, 1, 1)
        cv2.fillPoly(mask, points, 1)
        drawn.append((mask, 255 if "ignore" in shape["label"] else 1))
    mask = np.zeros((height, width), np.uint8)
    for region, value in sorted(drawn, key=lambda pair: -int(pair[0].sum())):
        mask[region > 0] = value
    return mask


def test_reasonseg_polygons_are_the_regions_of_their_queries(root):
    kinds = set()
    for split, count in (("train", 4), ("val", VAL // 2), ("test", VAL // 2)):
        files = sorted((root / "ReasonSeg" / split).glob("*.json"))
        assert len(files) == len(list((root / "ReasonSeg" / split).glob("*.jpg"))) == count
        for file in files:
            content = json.loads(file.read_text())
            scene = sample_scene(int(file.stem) - 1)
            query = picture_query(scene, content["is_sentence"])
            assert content["text"][0] == query.text
            assert len(content["text"]) >= 2
            _, regions = render(scene)
            mask = painted(content, *regions.shape)
            true = np.isin(regions, query.regions)
            scored = mask != 255
            overlap = ((mask == 1) & true).sum() / (((mask == 1) | true) & scored).sum()
            assert overlap > 0.9, (file, query)
            ignored = (mask == 255).any()
            assert ignored == (query.regions[0] < FIRST_SHAPE and bool(scene.members(query.regions[0])))
            kinds.add((content["is_sentence"], query.regions[0] < FIRST_SHAPE))
    assert len(kinds) == 4, "long and short queries about bands and shapes"


@pytest.mark.parametrize("split", ["val", "test"])
def test_gcg_captions_have_one_mask_per_label(root, split):
    folder = root / "GranDf/annotations/val_test"
    captions = json.loads((folder / f"{split}_gcg_coco_caption_gt.json").read_text())
    masks = COCO(folder / f"{split}_gcg_coco_mask_gt.json")
    assert len(captions["images"]) == len(captions["annotations"]) == VAL // 2
    for image, annotation in zip(captions["images"], captions["annotations"], strict=True):
        assert annotation["image_id"] == image["id"]
        assert Image.open(root / "GranDf_HA_images/val_test" / f"{image['id']}.jpg").size == (
            image["width"],
            image["height"],
        )
        assert all(label in annotation["caption"] for label in annotation["labels"])
        found = masks.loadAnns(masks.getAnnIds([image["id"]]))
        assert len(found) == len(annotation["labels"])
        for mask, label in zip(found, annotation["labels"], strict=True):
            pixels = masks.annToMask(mask)
            y, x = pixels.nonzero()
            assert mask["bbox"] == [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
            assert mask["area"] == pixels.sum() > 0
            assert (pixels.mean() > 0.12) == (label.split()[0] == "the"), "only bands are large"


def test_gcg_training_phrases_stand_where_they_are_said_to(root):
    for item in json.loads((root / "GranDf/annotations/train/GranDf_HA_GCG_train.json").read_text()):
        assert (root / "train2017" / item["file_name"]).is_file()
        for phrase, grounding in item["groundings"].items():
            start, end = grounding["token_positives"]
            assert item["caption"][start:end] == phrase
            assert all(coco_mask.decode(rle).any() for rle in grounding["rle_masks"])
