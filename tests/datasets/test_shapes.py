import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from shapes_reading import fits, found_by

from flmm.datasets.shapes import make_shapes
from flmm.datasets.shapes.captions import caption
from flmm.datasets.shapes.drawing import render
from flmm.datasets.shapes.expressions import expressions, plural_phrases
from flmm.datasets.shapes.scene import SIGNS, sample_scene

TRAIN, VAL = 6, 8


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", train=TRAIN, val=VAL, seed=3, workers=1)


def read(root, name):
    return json.loads((root / "annotations" / name).read_text())


def panoptic_ids(root, file_name):
    pixels = np.asarray(Image.open(root / "annotations/panoptic_val2017" / file_name)).astype(int)
    return pixels @ [1, 256, 65536]


def all_files(root):
    return {p.relative_to(root): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()}


def test_same_seed_same_files_other_seed_other_pictures(root, tmp_path):
    again = make_shapes(tmp_path / "again", train=TRAIN, val=VAL, seed=3, workers=1)
    other = make_shapes(tmp_path / "other", train=TRAIN, val=VAL, seed=4, workers=1)
    assert all_files(root) == all_files(again)
    assert not {p.name for p in (root / "val2017").iterdir()} & {p.name for p in (other / "val2017").iterdir()}


def test_annotations_are_those_of_this_version(root):
    digest = hashlib.sha256()
    for name in ("png_coco_val2017", "questions_val2017", "panoptic_val2017"):
        digest.update((root / "annotations" / f"{name}.json").read_bytes())
    assert digest.hexdigest()[:16] == "ec388ebee3e9ece7", "raise shapes.files.FORMAT when scenes or texts change"


def test_complete_data_set_is_kept_and_changed_parameters_make_it_anew(tmp_path):
    root = make_shapes(tmp_path / "s", train=1, val=3, workers=1)
    before = (root / "manifest.json").stat().st_mtime_ns
    assert (make_shapes(root, train=1, val=3, workers=1) / "manifest.json").stat().st_mtime_ns == before
    make_shapes(root, train=2, val=3, workers=1)
    assert len(list((root / "train2017").iterdir())) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["s"], "temporary folders must go"


def test_a_strangers_folder_is_never_replaced(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"manifest\.json"):
        make_shapes(tmp_path, train=1, val=3)
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("mine", ["notes.txt", "val2017/photo.jpg", "annotations/png_coco_val2017.json"])
def test_files_that_a_user_added_or_changed_are_never_deleted(tmp_path, mine):
    root = make_shapes(tmp_path / "s", train=1, val=3, workers=1)
    (root / mine).write_text("mine")
    make_shapes(root, train=1, val=3, workers=1)
    with pytest.raises(FileExistsError, match=rf"1 files there .*\({mine}\)\. Move them away") as error:
        make_shapes(root, train=2, val=3, workers=1)
    assert "train 1, val 3" in str(error.value)
    assert (root / mine).read_text() == "mine"
    (root / mine).unlink()
    make_shapes(root, train=2, val=3, workers=1)
    assert len(list((root / "train2017").iterdir())) == 2


@pytest.mark.parametrize(("train", "val"), [(0, 3), (1, 2)])
def test_too_few_images_are_refused(tmp_path, train, val):
    with pytest.raises(ValueError, match="training and 3 to"):
        make_shapes(tmp_path / "s", train=train, val=val)


def test_panoptic_pngs_hold_exactly_the_annotated_segments(root):
    content = read(root, "panoptic_val2017.json")
    things = {c["id"] for c in content["categories"] if c["isthing"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        ids = panoptic_ids(root, annotation["file_name"])
        assert ids.shape == sizes[annotation["image_id"]]
        areas = {s["id"]: s["area"] for s in annotation["segments_info"]}
        assert areas == dict(zip(*(v.tolist() for v in np.unique(ids, return_counts=True)), strict=True))
        assert sum(s["category_id"] in things for s in annotation["segments_info"]) == len(areas) - 2
    for image in content["images"]:
        with Image.open(root / "val2017" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])


def test_instances_read_by_coco_equal_panoptic_segments(root):
    coco = COCO(root / "annotations/instances_val2017.json")
    panoptic = {a["image_id"]: a for a in read(root, "panoptic_val2017.json")["annotations"]}
    assert len(coco.getImgIds()) == VAL
    for image_id in coco.getImgIds():
        ids = panoptic_ids(root, panoptic[image_id]["file_name"])
        instances = coco.loadAnns(coco.getAnnIds(image_id))
        things = panoptic[image_id]["segments_info"][2:]
        for instance, segment in zip(instances, things, strict=True):
            mask = coco.annToMask(instance)
            assert np.array_equal(mask, ids == segment["id"])
            assert instance["area"] == mask.sum() > 0
            assert instance["category_id"] == segment["category_id"]
            y, x = mask.nonzero()
            width, height = x.max() - x.min() + 1, y.max() - y.min() + 1
            assert instance["bbox"] == [x.min(), y.min(), width, height]


def test_captions_name_what_their_segments_are(root):
    names = {c["id"]: c["name"] for c in read(root, "panoptic_val2017.json")["categories"]}
    infos = {
        str(a["image_id"]): {str(s["id"]): names[s["category_id"]] for s in a["segments_info"]}
        for a in read(root, "panoptic_val2017.json")["annotations"]
    }
    seen = set()
    for item in read(root, "png_coco_val2017.json"):
        known = infos[item["image_id"]]
        assert item["caption"] == " ".join(s["utterance"] for s in item["segments"])
        named = [i for s in item["segments"] for i in s["segment_ids"]]
        assert named
        if item["image_id"] not in seen:  # the first is the caption in reading order
            assert sorted(named) == sorted(known), "every segment is named exactly once"
        seen.add(item["image_id"])
        for segment in item["segments"]:
            assert segment["plural"] == (len(segment["segment_ids"]) > 1)
            for i in segment["segment_ids"]:
                assert known[i] in segment["utterance"] or "shape" in segment["utterance"]


def test_free_texts_do_not_follow_the_layout(root):
    texts = read(root, "png_coco_train2017.json")
    by_image = {}
    for item in texts:
        by_image.setdefault(item["image_id"], []).append(
            [s["segment_ids"] for s in item["segments"] if s["segment_ids"]]
        )
    assert {len(v) for v in by_image.values()} == {4}
    assert any(sorted(v[0]) == sorted(v[1]) and v[0] != v[1] for v in by_image.values())
    assert any(len(v[2]) < len(v[0]) for v in by_image.values()), "partial texts"


@pytest.mark.parametrize(
    ("variant", "name", "splits"),
    [
        ("refcoco", "refs(unc).p", {"train", "val", "testA", "testB"}),
        ("refcoco+", "refs(unc).p", {"train", "val", "testA", "testB"}),
        ("refcocog", "refs(umd).p", {"train", "val", "test"}),
    ],
)
def test_references_point_at_instances_and_splits_share_no_image(root, variant, name, splits):
    refs = pickle.loads((root / variant / name).read_bytes())
    instances = json.loads((root / variant / "instances.json").read_text())
    annotations = {a["id"]: a for a in instances["annotations"]}
    files = {i["id"]: i["file_name"] for i in instances["images"]}
    assert {r["split"] for r in refs} == splits
    assert len({(r["image_id"], r["split"]) for r in refs}) == len({r["image_id"] for r in refs})
    assert len({r["ref_id"] for r in refs}) == len(refs)
    for ref in refs:
        annotation = annotations[ref["ann_id"]]
        assert annotation["image_id"] == ref["image_id"]
        assert annotation["category_id"] == ref["category_id"]
        assert (root / "train2014" / files[ref["image_id"]]).is_file()
        assert coco_mask.decode(annotation["segmentation"]).any()
        assert len(ref["sentences"]) == len(ref["sent_ids"]) > 0
        assert "left" not in ref["sentences"][0]["raw"].split() or variant != "refcoco+"


def test_region_map_shows_every_shape_inside_its_band():
    for seed in range(40):
        scene = sample_scene(seed)
        image, regions = render(scene)
        assert image.shape == (scene.height, scene.width, 3)
        assert set(np.unique(regions)) == set(range(2 + len(scene.shapes)))
        for index, shape in enumerate(scene.shapes):
            y, x = (regions == 2 + index).nonzero()
            assert abs(x.mean() - shape.x) < 3
            assert abs(y.mean() - shape.y) < 3
            assert (y.mean() > scene.horizon) == shape.band


def test_captions_cover_singulars_plurals_things_and_stuff():
    segments = [s for seed in range(200) for s in caption(sample_scene(seed)) if s.regions]
    plurals = sum(s.plural for s in segments)
    stuff = sum(max(s.regions) < 2 for s in segments)
    assert plurals > 40
    assert stuff == 400
    assert len(segments) - plurals - stuff > 200


def test_a_phrase_of_the_caption_fits_one_group_only():
    for seed in range(300):
        phrases = [s.utterance.split(maxsplit=1)[1].rstrip("s") for s in caption(sample_scene(seed)) if s.regions]
        assert len(set(phrases)) == len(phrases), seed


def test_scenes_hold_up_to_six_shapes_and_no_sign_twice():
    scenes = [sample_scene(seed) for seed in range(400)]
    assert {len(scene.shapes) for scene in scenes} == {1, 2, 3, 4, 5, 6}
    signs = [[s.sign for s in scene.shapes if s.sign] for scene in scenes]
    assert all(len(set(found)) == len(found) for found in signs)
    assert set(SIGNS) == {sign for found in signs for sign in found}


def test_expressions_fit_one_shape_only():
    checked = 0
    for seed in range(100):
        scene = sample_scene(seed)
        for index, target in enumerate(scene.shapes):
            for text in expressions(scene, index, locations=False):
                assert [i for i, s in enumerate(scene.shapes) if fits(s, text.split())] == [index], (seed, text)
                checked += 1
            for text in expressions(scene, index):
                assert found_by(scene, text.split()) == [index], (seed, text)
                assert fits(target, text.split(" left of ")[0].split(" right of ")[0].split())
    assert checked > 300


def test_plural_phrases_count_what_they_name():
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
    for seed in range(60):
        scene = sample_scene(seed)
        for phrase in plural_phrases(scene):
            words = [w.removesuffix("es") if w == "crosses" else w.removesuffix("s") for w in phrase.utterance.split()]
            found = [i for i, s in enumerate(scene.shapes) if fits(s, words)]
            if {"in", "on"} & set(words):
                found = [i for i in found if scene.stuff[scene.shapes[i].band] == phrase.utterance.split()[-1]]
            assert tuple(2 + i for i in found) == phrase.regions, (seed, phrase)
            assert numbers.get(words[0], len(found)) == len(found)
