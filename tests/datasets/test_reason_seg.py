"""ReasonSeg's annotations: masks, texts in two encodings, what is left out and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from flmm.datasets.check import check_data
from flmm.datasets.reason_seg import ReasonSeg, open_question, read_question

SIZE = (20, 30)


def square(x0, y0, x1, y1, label="target"):
    return {"label": label, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}


def write(folder, name="a", shapes=(), text=("the lamp",), is_sentence=False, encoding="utf-8", **picture):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"text": list(text), "is_sentence": is_sentence, "shapes": list(shapes)}
    (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    Image.new("RGB", SIZE[::-1]).save(folder / f"{name}.jpg", **picture)
    return folder / f"{name}.json"


def mask_of(folder, *shapes):
    return open_question(read_question(write(folder, shapes=shapes)))[1]


def test_small_polygons_lie_over_large_ones_whatever_their_order(tmp_path):
    large, small = square(0, 0, 19, 15), square(5, 5, 8, 9, "Ignored area")
    for shapes in ((large, small), (small, large)):
        mask = mask_of(tmp_path, *shapes)
        assert mask.dtype == np.uint8
        assert mask.shape == SIZE
        assert (mask[5:10, 5:9] == 255).all()  # corners belong to a polygon
        assert (mask == 255).sum() == 5 * 4
        assert (mask == 1).sum() == 16 * 20 - 5 * 4


def test_corners_are_cut_to_whole_pixels_and_may_lie_outside(tmp_path):
    mask = mask_of(tmp_path, square(25.9, 17.9, 99, 99))
    assert mask.nonzero()[0].min() == 17
    assert mask.nonzero()[1].min() == 25
    assert mask.sum() == 3 * 5


def test_flags_paint_nothing(tmp_path):
    assert mask_of(tmp_path, square(0, 0, 9, 9, "flag"), square(2, 2, 3, 3)).sum() == 4


def test_a_target_over_what_is_ignored(tmp_path):
    mask = mask_of(tmp_path, square(0, 0, 9, 9, "ignore"), square(2, 2, 3, 3))
    assert (mask == 1).sum() == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_texts_in_either_encoding(tmp_path, encoding):
    file = write(tmp_path, text=["a café’s sign", "other words"], encoding=encoding, shapes=[square(0, 0, 3, 3)])
    question = read_question(file)
    assert question.text == "a café’s sign"
    assert question.texts[1] == "other words"


def test_pictures_without_a_polygon_are_left_out_and_named(tmp_path):
    write(tmp_path / "test", "a", [square(0, 0, 3, 3)])
    write(tmp_path / "test", "b", [])
    write(tmp_path / "test", "c", [square(0, 0, 3, 3, "flag")])
    write(tmp_path / "test", "d", [square(0, 0, 3, 3, "ignore")])
    data = ReasonSeg(tmp_path, "test")
    assert [question.image.name for question in data] == ["a.jpg", "d.jpg"]
    assert data.without_polygon == ["b.json", "c.json"]


def test_a_picture_is_turned_as_its_annotator_saw_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image, mask = open_question(read_question(write(tmp_path, shapes=[square(0, 0, 3, 25)], exif=exif)))
    assert (image.height, image.width) == mask.shape == SIZE[::-1]
    assert mask.sum() == 4 * 26


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not complete JSON"),
        ("[]", "is no annotation of ReasonSeg"),
        ('{"text": ["a"], "is_sentence": true}', "lacks 'shapes'"),
        ('{"text": [], "is_sentence": true, "shapes": []}', "has no query"),
        ('{"text": [" "], "is_sentence": true, "shapes": []}', "has no query"),
        ('{"text": ["a"], "is_sentence": true, "shapes": [{"label": "target", "points": [1, 2]}]}', "a list of .x, y"),
        ('{"text": ["a"], "is_sentence": true, "shapes": [{"label": "target", "points": []}]}', "a list of .x, y"),
        ('{"text": ["a"], "is_sentence": true, "shapes": [{"label": "a", "points": [["x", 2]]}]}', "could not convert"),
        ('{"text": ["a"], "is_sentence": true, "shapes": [{"label": 3, "points": [[1, 2]]}]}', "no annotation of"),
    ],
)
def test_annotations_that_cannot_be_used_are_named(tmp_path, content, message):
    file = write(tmp_path)
    file.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_question(file)
    assert str(file) in str(raised.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no annotation of ReasonSeg in"):
        ReasonSeg(tmp_path, "val")
    file = write(tmp_path)
    file.with_suffix(".jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no picture .*a\.jpg beside a\.json"):
        read_question(file)


def findings(root):
    report = check_data(root)
    return report.is_broken, "\n".join(f"{finding.what}: {finding.text}" for finding in report.findings)


def test_the_data_check(tmp_path):
    root = tmp_path / "ReasonSeg"
    for split in ("train", "val", "test"):
        write(root / split, "a", [square(0, 0, 3, 3)])
        write(root / split, "b", [square(0, 0, 3, 3)], is_sentence=True)
    write(root / "test", "c", [])
    broken, text = findings(tmp_path)
    assert not broken
    assert "1 long queries, 1 short ones" in text
    assert "1 without a polygon are left out: c.json" in text
    write(root / "val", "d", [square(50, 50, 60, 60)])
    (root / "train" / "a.json").write_text("{")
    (root / "train" / "b.jpg").write_bytes(b"no picture")
    broken, text = findings(root)
    assert broken
    for part in ("1 of 2 annotations", "no pixel of a target", "no picture"):
        assert part in text


def test_the_data_check_names_the_source_of_what_is_missing(tmp_path):
    report = check_data(tmp_path / "ReasonSeg")
    assert report.is_broken
    assert all("dvlab-research/LISA" in finding.cure for finding in report.findings)
    assert len(report.findings) == 3
