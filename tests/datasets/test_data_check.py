"""`flmm data check` on a sound directory, and on one with each thing missing or broken."""

import argparse
import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from flmm.datasets import check
from flmm.datasets.captions import Panoptic
from flmm.datasets.res import RESDataset

DATA = Path(__file__).parents[1] / "golden" / "comp_datasets" / "data"


@pytest.fixture
def root(tmp_path):
    coco = tmp_path / "data" / "coco"
    for split in ("train", "val"):
        shutil.copytree(DATA / "panoptic", coco / "annotations" / f"panoptic_{split}2017")
        shutil.copytree(DATA / "images", coco / f"{split}2017")
        shutil.copy(DATA / "panoptic.json", coco / "annotations" / f"panoptic_{split}2017.json")
        shutil.copy(DATA / "png.json", coco / "annotations" / f"png_coco_{split}2017.json")
    shutil.copytree(DATA / "images", coco / "train2014")
    for name, file in (("refcoco", "refs(unc).p"), ("refcoco+", "refs(unc).p"), ("refcocog", "refs(umd).p")):
        (coco / name).mkdir()
        shutil.copy(DATA / "refcoco" / "instances.json", coco / name)
        refs = json.loads((DATA / "refcoco" / "refs.json").read_text())
        (coco / name / file).write_bytes(pickle.dumps(refs))
    return coco


def status(root, *arguments):
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args([str(root), *arguments]))


def told(root, **keywords):
    report = check.check_data(root, **keywords)
    assert report.is_broken
    return "\n".join(f"{f.what}: {f.text} {f.cure}" for f in report.findings if f.state == "broken")


def test_a_sound_directory(root, capsys):
    assert status(root) == 0
    assert status(root.parent, "--sample", "1") == 0
    assert "broken" not in capsys.readouterr().out
    findings = check.check_data(root).findings
    assert [f.text for f in findings if f.what.endswith("png_coco_val2017.json")] == ["3 captions"]
    assert any("7 objects (train 2, val 5)" in f.text for f in findings)


@pytest.mark.parametrize("name", ["data", "data/coco"])
def test_nothing_there(name, tmp_path, capsys):
    """Everything is named, with its source and its place."""
    assert status(tmp_path / name) == 1
    output = capsys.readouterr().out.replace("\n", "")
    for what in ("flmm data shapes", "train2017.zip", "panoptic_annotations", "narrative-grounding", "refcocog.zip"):
        assert what in output
    assert str(tmp_path / "data/coco/annotations/png_coco_train2017.json") in told(tmp_path / name)


def test_a_source_is_said_once(tmp_path, capsys):
    """All that comes from one place stands before it."""
    assert status(tmp_path / "coco") == 1
    cures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert len({cure.rpartition(": ")[2] for cure in cures}) == len(cures)
    assert any(
        cure.startswith("- panoptic_train2017.json, panoptic_train2017, panoptic_val2017.json, panoptic_val2017: http")
        for cure in cures
    )


def test_a_folder_that_is_not_there_is_said_to_be_none(tmp_path, capsys):
    assert status(tmp_path / "nofolder") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"broken {tmp_path / 'nofolder'}: no such folder"
    assert len(lines) == 3
    assert "`flmm data check data/coco` lists" in lines[2]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("annotations/png_coco_train2017.json", "bcv-uniandes.github.io"),
        ("annotations/panoptic_val2017.json", "panoptic_annotations_trainval2017.zip"),
        ("annotations/panoptic_train2017", "panoptic_annotations_trainval2017.zip"),
        ("train2017", "zips/train2017.zip"),
        ("val2017", "zips/val2017.zip"),
        ("train2014", "zips/train2014.zip"),
        ("refcoco+/instances.json", "referit/data/refcoco+.zip"),
        ("refcocog/refs(umd).p", "referit/data/refcocog.zip"),
    ],
)
def test_each_missing_part_is_told_with_its_source(root, path, source, capsys):
    target = root / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    message = told(root)
    assert str(target) in message
    assert source in message
    assert status(root) == 1
    assert source in capsys.readouterr().out.replace("\n", "")


def test_missing_folders_are_told_even_when_annotations_are_missing_too(root):
    (root / "annotations" / "panoptic_train2017.json").unlink()
    (root / "refcoco" / "instances.json").unlink()
    for folder in ("train2017", "train2014"):
        shutil.rmtree(root / folder)
    message = told(root)
    assert f"{root / 'train2017'}: missing" in message
    assert f"{root / 'train2014'}: missing" in message


def test_a_folder_that_was_not_unpacked_to_its_end(root):
    (root / "annotations" / "panoptic_train2017" / "000000000632.png").unlink()
    assert "cut short: 1 of 3 files missing, the first 000000000632.png" in told(root, only=["png_train"])


def test_unreadable_files(root):
    (root / "annotations" / "png_coco_val2017.json").write_text("[{")
    (root / "refcoco" / "refs(unc).p").write_bytes(b"\x80")
    message = told(root)
    assert "png_coco_val2017.json: unreadable" in message
    assert "refs(unc).p: unreadable" in message


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_ids_that_do_not_fit(root):
    edit(
        root / "annotations" / "png_coco_train2017.json",
        lambda items: items[0]["segments"][1].update(segment_ids=["5"]),
    )
    edit(root / "refcoco" / "instances.json", lambda content: content["annotations"].pop(0))
    message = told(root)
    assert "1 of 3 captions: segment(s) [5] of phrase 'a man', image 139" in message
    assert "2 of 7 objects (train 2, val 5): object 1: no annotation 1390" in message


def test_bad_expressions_and_polygons(root):
    edit(root / "refcoco" / "instances.json", lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, 4]]))
    assert "annotation 1391 covers no pixel of image 139" in told(root, only=["refcoco"])
    far = [[5000, 5000, 5009, 5000, 5009, 5009]]
    edit(root / "refcoco" / "instances.json", lambda c: c["annotations"][1].update(segmentation=far))
    assert "1 of 7 objects (train 2, val 5): annotation 1391 covers" in told(root, only=["refcoco"])
    runs = {"size": [61, 97], "counts": [100, 5, 5812]}
    edit(root / "refcoco" / "instances.json", lambda c: c["annotations"][1].update(segmentation=runs))
    assert not check.check_data(root, only=["refcoco"]).is_broken
    path = root / "refcocog" / "refs(umd).p"
    refs = pickle.loads(path.read_bytes())
    refs[0]["sentences"][1]["raw"] = " "
    path.write_bytes(pickle.dumps(refs))
    assert "object 1 has an empty expression" in told(root, only=["refcocog"])


def test_pictures_and_masks_are_opened(root):
    image = root / "val2017" / "000000000139.jpg"
    Image.open(image).resize((30, 30)).save(image)
    assert "000000000139.jpg: the image is 30 x 30" in told(root, only=["png_val"])
    png = root / "annotations" / "panoptic_train2017" / "000000000285.png"
    png.write_bytes(png.read_bytes()[:100])
    assert "000000000285.png cannot be decoded" in told(root, only=["png_train"])
    Image.new("RGB", (50, 83)).save(png)
    assert "000000000285.png has no pixel of segments [10243006, 11715145]" in told(root, only=["png_train"])
    Image.new("RGB", (5, 8)).save(png)
    assert "is 8 x 5, not 83 x 50" in told(root, only=["png_train"])
    photo = root / "train2014" / "000000000632.jpg"
    photo.write_bytes(photo.read_bytes()[:500])
    assert "000000000632.jpg cannot be decoded" in told(root, only=["refcoco"])
    Image.new("RGB", (5, 8)).save(photo)
    assert "000000000632.jpg: the image is 8 x 5" in told(root, only=["refcoco"])


SQUARE = [[10, 10, 40, 10, 40, 30, 10, 30]]
BAD_SEGMENTATIONS = {
    "null": (None, "its segmentation is None"),
    "flat": (SQUARE[0], r"holds 10 where a polygon should be \(a polygon needs a list around it\)"),
    "nested": ([[[10, 10], [40, 10], [40, 30]]], "is nested"),
    "words": ([["left", "right", 1, 2, 3, 4]], "something else than numbers"),
    "not a number": ([[float("nan"), 10, 40, 10, 40, 30]], "not finite"),
    "an odd number": ([*SQUARE, [10, 10, 40, 10, 40, 30, 10]], "holds 7 numbers, so an x or y is missing"),
    "shares": ([[0.1, 0.1, 0.9, 0.1, 0.9, 0.8]], "lie within 0 and 1: write pixels"),
    "in a list": ([{"size": [61, 97], "counts": [5917]}], "where a polygon should be"),
    "no size": ({"counts": [5917]}, "have no size"),
    "no counts": ({"size": [61, 97], "counts": None}, "counts is None"),
    "too short": ({"size": [61, 97], "counts": [100, 50]}, r"cover 150 pixels, but 61 x 97 .* are 5917"),
    "too long": ({"size": [61, 97], "counts": [0, 6000]}, "cover 6000 pixels"),
    "negative": ({"size": [61, 97], "counts": [-3, 5920]}, "negative"),
    "swapped": ({"size": [97, 61], "counts": [5917]}, r"size \[97, 61\], but the picture is \[61, 97\] .*written as"),
    "smaller": ({"size": [30, 48], "counts": [1440]}, r"size \[30, 48\], but the picture is \[61, 97\]"),
    "cut text": ({"size": [61, 97], "counts": "e1`"}, "damaged or cut"),
    "other text": ({"size": [61, 97], "counts": "no code!"}, "damaged or cut|cover"),
}


@pytest.mark.parametrize("kind", BAD_SEGMENTATIONS)
def test_segmentations_are_refused_alike_by_check_and_data_set(root, kind):
    segmentation, message = BAD_SEGMENTATIONS[kind]
    edit(root / "refcoco" / "instances.json", lambda c: c["annotations"][0].update(segmentation=segmentation))
    assert re.search(f"object 1, annotation 1390 of 000000000139.jpg: .*{message}", told(root, only=["refcoco"]))
    split = json.loads((DATA / "refcoco" / "refs.json").read_text())[0]["split"]
    with pytest.raises(ValueError, match=rf"refs\(unc\).p with .*instances.json: .*annotation 1390 .*{message}"):
        refcoco(root, split)


BAD_REFS = {
    "no ann_id": (lambda ref: ref.pop("ann_id"), "object 3 has no ann_id"),
    "no ref_id": (lambda ref: ref.pop("ref_id"), "has no ref_id"),
    "no image_id": (lambda ref: ref.pop("image_id"), "object 3 has no image_id"),
    "no field": (lambda ref: ref.pop("sentences"), "object 3 has no sentences"),
    "no sentence": (lambda ref: ref.update(sentences=[]), "object 3 has an empty list of sentences"),
    "plain sentence": (lambda ref: ref.update(sentences=["a dog"]), "object 3 has the sentence 'a dog'"),
    "one string": (lambda ref: ref.update(sentences="a dog"), "object 3 has sentences='a dog', not a list"),
    "no raw": (lambda ref: ref.update(sentences=[{"sent": "a dog"}]), "write {'raw': 'the words'}"),
    "raw is None": (lambda ref: ref.update(sentences=[{"raw": None}]), "write {'raw': 'the words'}"),
    "blank": (lambda ref: ref.update(sentences=[{"raw": "  "}]), "object 3 has an empty expression"),
    "no split": (lambda ref: ref.pop("split"), "reference 2 is no dict with a split"),
}


@pytest.mark.parametrize("kind", BAD_REFS)
def test_references_are_refused_alike_by_check_and_data_set(root, kind):
    change, message = BAD_REFS[kind]
    refs = pickle.loads((root / "refcoco" / "refs(unc).p").read_bytes())
    split = refs[2]["split"]
    change(refs[2])
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs))
    assert message in told(root, only=["refcoco"])
    with pytest.raises(ValueError, match=re.escape(message)):
        refcoco(root, split)


@pytest.mark.parametrize("refs", [None, [], {1: {"split": "val"}}, ["a"]])
def test_files_without_references_are_refused_alike(root, refs):
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs))
    assert "refs(unc).p: unreadable" in told(root, only=["refcoco"])
    with pytest.raises(ValueError, match=r"refs\(unc\).p"):
        refcoco(root)


def refcoco(root, split="train"):
    return RESDataset(
        data_root=f"{root}/",
        ann_file="refcoco/instances.json",
        split_file="refcoco/refs(unc).p",
        split=split,
        sample_builder=object(),
    )


def test_a_file_as_root(tmp_path):
    (tmp_path / "README.md").touch()
    assert "neither a folder nor a .jsonl file" in told(tmp_path / "README.md")


def test_names_are_never_cut_and_a_negative_sample_opens_all(root, capsys):
    (root / "val2017" / "000000000139.jpg").unlink()
    assert status(root, "--sample", "-3") == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"broken {root / 'val2017'}: cut short: 1 of 3 files missing") for line in lines)


def test_shapes_are_said_to_come_from_the_command_that_makes_them(root):
    (root / "manifest.json").write_text("{}")
    shutil.rmtree(root / "val2017")
    message = told(root)
    assert f"`flmm data shapes --out {root}` makes {root}" in message
    assert "http" not in message


def test_missing_shapes_come_from_the_command_too(tmp_path):
    message = told(tmp_path / "data/shapes")
    assert f"`flmm data shapes --out {tmp_path / 'data/shapes'}` makes" in message
    assert "http" not in message
    (tmp_path / "data/shapes/ReasonSeg/val").mkdir(parents=True)  # cut short
    assert "http" not in told(tmp_path / "data/shapes")


@pytest.mark.parametrize("name", ["1.jpeg", "1.JPG", "1.png", "a.jpg.b.jpg", "x.jpg/1.jpg"])
@pytest.mark.parametrize("named", [True, False])
def test_panoptic_pngs_are_those_that_the_annotation_names(tmp_path, name, named):
    image = {"id": 1, "file_name": name, "height": 4, "width": 4}
    annotation = {"image_id": 1, "segments_info": []} | ({"file_name": "map_1.png"} if named else {})
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps({"images": [image], "annotations": [annotation], "categories": []}))
    assert Panoptic(path)[1].segm_file == ("map_1.png" if named else name.rpartition(".")[0] + ".png")


def with_image(content):
    for item in content["annotations"]:
        item["image_id"] = 139
    return content


MIXED_UP = {
    "an annotation of another picture": (
        lambda c: with_image(c)["annotations"][0].update(image_id=285),
        lambda refs: None,
        "annotation 1390 is of image 285, but the reference is of image 139",
    ),
    "two annotations with one id": (
        lambda c: c["annotations"].append({**c["annotations"][0], "segmentation": SQUARE}),
        lambda refs: None,
        "two different annotations with the id 1390",
    ),
    "two pictures with one id": (
        lambda c: c["images"].append({**c["images"][0], "file_name": "other.jpg"}),
        lambda refs: None,
        "two different images with the id",
    ),
    "two references with one id": (
        lambda c: None,
        lambda refs: refs[1].update(ref_id=refs[0]["ref_id"]),
        "have the same ref_id",
    ),
}


@pytest.mark.parametrize("kind", MIXED_UP)
def test_files_that_were_merged_carelessly_are_refused_alike(root, kind):
    """Masks of other objects and pictures would be trained on: the last of two entries was taken."""
    objects, references, message = MIXED_UP[kind]
    edit(root / "refcoco" / "instances.json", objects)
    path = root / "refcoco" / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    references(refs)
    path.write_bytes(pickle.dumps(refs))
    assert message in told(root, only=["refcoco"])
    with pytest.raises(ValueError, match=message):
        refcoco(root, refs[0]["split"])


def test_an_object_that_is_written_twice_alike_is_read(root):
    edit(root / "refcoco" / "instances.json", lambda c: c["annotations"].append(dict(c["annotations"][0])))
    assert not check.check_data(root, only=["refcoco"]).is_broken
