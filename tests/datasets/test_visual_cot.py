"""The benchmark's files, with what is odd in the published ones."""

import json

import pytest

from flmm.datasets.visual_cot import picture_files, read_items

QUESTION = "<image>\nIs it red? Please provide the bounding box coordinate of the region that can help you answer the question better."  # noqa: E501


def entry(number, image="cot/gqa/7.jpg", box="[1, 2, 30, 40]", answer="Yes", other=None):
    turns = [QUESTION, "[0.282, 0.316, 0.794, 0.738]", "<image>", answer]
    return {
        "dataset": "gqa",
        "split": "val",
        "question_id": number,
        "image": [image, f"{other or image}###{box}"],
        "conversations": [{"from": "human", "value": turn} for turn in turns],
    }


@pytest.fixture
def write(tmp_path):
    def write(*entries, name="gqa"):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(entries))
        return path

    return write


def test_items(write):
    (item,) = read_items(write(entry(12)))
    assert (item.subset, item.question_id, item.question, item.answer) == ("gqa", 12, "Is it red?", "Yes")
    assert item.box == item.true_box == (1, 2, 30, 40)
    assert item.image == "cot/gqa/7.jpg"


@pytest.mark.parametrize("box", ["[5, 5, 5, 9]", "[-3, 0, 4, 4]", "[9, 0, 4, 4]", "[0, 0, 0, 0]"])
def test_boxes_that_are_none_are_kept_as_they_are(write, box):
    (item,) = read_items(write(entry(1, box=box)))
    assert list(item.box) == json.loads(box)
    assert item.true_box is None


def test_pictures_with_another_extension(write, tmp_path):
    (tmp_path / "cot/gqa").mkdir(parents=True)
    (tmp_path / "cot/gqa/7.jpeg").write_bytes(b"")
    (tmp_path / "cot/gqa/8.png").write_bytes(b"")
    items = read_items(write(entry(1), entry(2, "cot/gqa/8.png", other="cot/gqa/8.jpeg")))
    assert [file.name for file in picture_files(items, tmp_path)] == ["7.jpeg", "8.png"]
    items = read_items(write(entry(1), entry(2, "cot/gqa/9.jpg"), entry(3, "cot/gqa/9.jpg")))
    with pytest.raises(FileNotFoundError, match=r"1 of 2 pictures of gqa are not in .*cot/gqa/9.jpg.*--image_folder"):
        picture_files(items, tmp_path)


@pytest.mark.parametrize(
    "broken",
    [{"image": ["a.jpg"]}, {"image": ["a.jpg", "a.jpg"]}, {"conversations": []}, {"question_id": None}],
)
def test_files_of_another_format(write, broken):
    path = write(entry(1), {**entry(2), **broken})
    with pytest.raises(ValueError, match=r"gqa.json, item 1: .*published files"):
        read_items(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.json.*visual_cot.md"):
        read_items(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('[{"image": [')
    with pytest.raises(ValueError, match=r"cut.json is no JSON"):
        read_items(tmp_path / "cut.json")
