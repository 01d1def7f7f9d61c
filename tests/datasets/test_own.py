"""Your data: what a line may say, what is refused with its line, and the sample that comes of it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from flmm.cli.main import main
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.own import OwnDataset, entries
from flmm.datasets.own.check import check_file
from flmm.datasets.png import concat_datasets
from flmm.masks import encode_mask as encode

SIZE = (20, 30)
SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]  # 16 pixels
READER = {
    "tokenizer": None,
    "image_processor": {
        "size": {"shortest_edge": 42},
        "crop_size": {"height": 42, "width": 42},
    },
    "prompt": "<image>\nDescribe it.",
    "prompt_template": {"INSTRUCTION": "USER: {input} ASSISTANT:"},
}


@pytest.fixture(scope="module")
def reader():
    from transformers import AutoTokenizer

    folder = "tests/golden/comp_datasets/tokenizer_with_image"
    return {
        **READER,
        "tokenizer": AutoTokenizer.from_pretrained(folder),
        "image_processor": CustomLlavaImageProcessor(**READER["image_processor"]),
    }


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", SIZE[::-1], "gray").save(tmp_path / "a.jpg")
    ids = np.zeros(SIZE, dtype=np.uint8)
    ids[:10], ids[10:, :3] = 7, 9
    Image.fromarray(ids).save(tmp_path / "ids.png")
    rgb = np.zeros((*SIZE, 3), dtype=np.uint8)
    rgb[:4] = (1, 2, 0)
    Image.fromarray(rgb).save(tmp_path / "panoptic.png")
    Image.fromarray(ids).convert("RGB").save(tmp_path / "gray_as_rgb.png")
    (tmp_path / "masks/set one").mkdir(parents=True)
    Image.fromarray(ids).save(tmp_path / "masks/set one/ids.png")
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[:2] = 1
    Image.fromarray(255 * mask).save(tmp_path / "white.png")
    Image.fromarray(mask.astype(bool)).save(tmp_path / "bit.png")
    palette = Image.fromarray(2 * mask).convert("P")
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(255 * mask).save(tmp_path / "mask.jpg")
    return tmp_path


def write(folder, *lines):
    file = folder / "data.jsonl"
    file.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return file


def line(*phrases, text="A cat on a mat.", image="a.jpg", **more):
    return {"image": image, "text": text, "phrases": list(phrases), **more}


def runs(rows):
    mask = np.zeros(SIZE, dtype=bool)
    mask[:rows] = True
    return encode(mask)


REGIONS = {
    "run lengths": ({"mask": runs(3)}, 90),
    "a polygon": ({"mask": SQUARE}, 16),
    "polygons": ({"mask": [SQUARE, [10, 10, 12, 10, 12, 12, 10, 12]]}, 20),
    "points": ({"mask": [[2, 1], [6, 1], [6, 5], [2, 5]]}, 16),
    "a PNG": ({"mask": "ids.png"}, 330),
    "a PNG and an id": ({"mask": "ids.png", "id": 9}, 30),
    "a panoptic PNG and an id": ({"mask": "panoptic.png", "id": 513}, 120),
    "a gray level saved as RGB": ({"mask": "gray_as_rgb.png", "id": 9}, 30),
    "black and white": ({"mask": "white.png"}, 60),
    "one bit": ({"mask": "bit.png"}, 60),
    "a palette entry": ({"mask": "palette.png", "id": 2}, 60),
    "a path of Windows": ({"mask": "masks\\set one\\ids.png", "id": 9}, 30),
    "a box": ({"box": [1, 2, 4, 6]}, 12),
    "a box as mask": ({"mask": [1, 2, 4, 6]}, 12),
    "several": ({"masks": [runs(1), SQUARE, "ids.png"]}, 330 + 0),
    "several with ids": ({"masks": [{"png": "ids.png", "id": 9}, {"png": "panoptic.png", "id": 513}]}, 150),
    "no target": ({"mask": None}, 0),
    "no masks": ({"masks": []}, 0),
}


@pytest.mark.parametrize("name", REGIONS)
def test_every_way_to_write_a_mask(folder, reader, name):
    region, pixels = REGIONS[name]
    sample = OwnDataset(write(folder, line({"text": "a cat", **region})), **reader)[0]
    assert sample["gt_masks"].shape == (1, *SIZE)
    assert sample["gt_masks"].sum() == pixels
    assert sample["gt_masks"].dtype == torch.uint8


def test_a_sample(folder, reader):
    phrases = [{"span": [9, 14], "mask": SQUARE, "isthing": False}, {"text": "a cat", "masks": [SQUARE, "ids.png"]}]
    sample = OwnDataset(write(folder, line(*phrases)), **reader)[0]
    assert sample["phrases"] == ["a mat", "A cat"]
    assert sample["mask_infos"] == [{"plural": False, "isthing": False}, {"plural": True, "isthing": True}]
    assert sample["file_name"] == "a.jpg"
    said = [reader["tokenizer"].decode(sample["input_ids"][sample["mask_ids"] == phrase]) for phrase in (0, 1)]
    assert said == ["a mat", "A cat"]
    assert {"labels", "pixel_values", "meta_data", "masks", "padded_masks", "image"} <= sample.keys()


def test_texts_in_any_script(folder, reader):
    text = "沙发上有一只猫 und daneben ein Café 👨‍👩‍👧."
    place = text.index("👨")
    phrases = [
        {"text": "一只猫", "mask": SQUARE},
        {"text": "ein Café", "mask": SQUARE},
        {"span": [place, place + 5], "mask": SQUARE},
    ]
    dataset = OwnDataset(write(folder, line(*phrases, text=text)), **reader)
    assert dataset.entry(0)[1].words == ["一只猫", "ein Café", "👨‍👩‍👧"]
    assert len(dataset[0]["gt_masks"]) == 3


def test_repeated_words_take_spans(folder, reader):
    text = "A cat and a cat."
    phrases = [{"span": [0, 5], "mask": SQUARE}, {"span": [10, 15], "mask": "ids.png"}]
    sample = OwnDataset(write(folder, line(*phrases, text=text)), **reader)[0]
    assert sample["gt_masks"].flatten(1).sum(1).tolist() == [16, 330]


def test_phrases_without_a_target_can_be_left_to_the_text(folder, reader):
    lines = [line({"text": "a cat", "mask": None}, {"text": "a mat", "mask": SQUARE}), line(image="b.jpg")]
    file = write(folder, *lines)
    assert [len(OwnDataset(file, no_target=flag, **reader)[0]["gt_masks"]) for flag in (True, False)] == [2, 1]
    assert len(OwnDataset(file, **reader)) == 1  # the line without a phrase is left out
    with pytest.raises(ValueError, match="no line with a phrase"):
        OwnDataset(write(folder, line({"text": "a cat", "mask": None})), no_target=False, **reader)


def test_polygons_are_of_the_picture_as_it_is_shown(folder, reader):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE[::-1]).save(folder / "turned.jpg", exif=exif)
    lines = [line({"text": "a cat", "mask": SQUARE}, image="turned.jpg")]
    assert OwnDataset(write(folder, *lines), **reader)[0]["gt_masks"].shape == (1, *SIZE[::-1])
    lines = [line({"text": "a cat", "mask": SQUARE}, image="turned.jpg", height=20, width=30)]
    assert OwnDataset(write(folder, *lines), **reader)[0]["gt_masks"].shape == (1, *SIZE)
    lines = [line({"text": "a cat", "mask": "ids.png"}, image="turned.jpg")]
    assert OwnDataset(write(folder, *lines), **reader)[0]["gt_masks"].shape == (1, *SIZE)


@pytest.mark.parametrize("size", [{}, {"height": 20, "width": 30}])
def test_a_turn_by_half_is_made_whether_a_size_is_written_or_not(folder, reader, size):
    """The size tells nothing then: polygons are of the picture as a viewer shows it."""
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = Image.new("RGB", SIZE[::-1])
    picture.putpixel((0, 0), (255, 0, 0))
    picture.save(folder / "turned.png", exif=exif)
    lines = [line({"text": "a cat", "mask": SQUARE}, image="turned.png", **size)]
    assert OwnDataset(write(folder, *lines), **reader)[0]["image"].getpixel((29, 19)) == (255, 0, 0)


def test_damaged_exif_data_are_passed_over(folder, reader):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    Image.new("RGB", SIZE[::-1]).save(folder / "odd.jpg", exif=exif)
    data = (folder / "odd.jpg").read_bytes()
    place = data.index(b"\x00\x00\x00H\x00\x00\x00\x01")  # 72 / 1
    (folder / "odd.jpg").write_bytes(data[:place] + b"\xff" * 4 + b"\x00" * 4 + data[place + 8 :])
    lines = [line({"text": "a cat", "mask": SQUARE}, image="odd.jpg")]
    assert OwnDataset(write(folder, *lines), **reader)[0]["gt_masks"].shape == (1, *SIZE[::-1])


def test_a_jpeg_is_no_mask(folder, reader):
    Image.open(folder / "ids.png").convert("L").save(folder / "ids.jpg")
    with pytest.raises(ValueError, match=r"line 1: .*ids\.jpg is JPEG, which changes values"):
        OwnDataset(write(folder, line({"text": "a cat", "mask": "ids.jpg"})), **reader)[0]


CAT = {"text": "a cat", "mask": SQUARE}
BAD = {
    "no JSON": (b'{"image": "a.jpg"', "no complete JSON"),
    "another encoding": ('{"image": "a.jpg", "text": "caf\xe9"}'.encode("latin-1"), "no complete JSON in UTF-8"),
    "half a surrogate": (b'{"image": "a.jpg", "text": "\\ud83d", "phrases": []}', "no complete JSON"),
    "no picture": ({"text": "A cat."}, "missing required field `image`"),
    "another type": (line(CAT, text=3), r"Expected `str`, got `int` - at `\$.text`"),
    "empty text": (line(CAT, text=" "), "text is empty"),
    "phrase elsewhere": (line({"text": "a dog", "mask": SQUARE}), "'a dog' is not in the text"),
    "neither": (line({"mask": SQUARE}), "phrase 0 has neither `text` nor `span`"),
    "another key of a phrase": (
        line({"phrase": "a cat", "mask": SQUARE}),
        r"phrase 0 has neither `text` nor `span`: write one of them \(nothing reads `phrase`\)",
    ),
    "another key of a mask": (line({"text": "a cat", "segmentation": SQUARE}), r"nothing reads `segmentation`"),
    "a file of expressions": (
        {"image": "a.jpg", "phrase": "a cat", "mask": SQUARE},
        r"missing required field `text` \(nothing reads `phrase`\)",
    ),
    "phrases misspelled": (
        {"image": "a.jpg", "text": "A cat.", "phrase": [CAT]},
        r"no `phrases`: write a list of them.*\(nothing reads `phrase`\)",
    ),
    "another span": (line({"text": "a cat", "span": [1, 5], "mask": SQUARE}), r"is 'cat on?', its `text`|is ' cat'"),
    "ambiguous": (line(CAT, text="A cat and a cat."), "occurs more than once .*: write its `span`"),
    "overlapping": (line(CAT, {"span": [2, 8], "mask": SQUARE}), "overlap"),
    "reversed span": (line({"span": [5, 2], "mask": SQUARE}), r"span \(5, 2\) is not inside"),
    "long span": (line({"span": [0, 99], "mask": SQUARE}), "not inside the text of 15 characters"),
    "bytes": (line({"span": [4, 9], "mask": SQUARE}, text="ein Café"), "count characters .* not its 9 bytes"),
    "inside a letter": (line({"span": [0, 4], "mask": SQUARE}, text="Cafe\u0301 x"), "cuts the letter 'e\u0301' at 4"),
    "inside a picture": (line({"span": [0, 1], "mask": SQUARE}, text="👨‍👩 x"), "cuts the letter"),
    "no mask": (line({"text": "a cat"}), "needs `mask`, `masks` or `box`, it has none of them"),
    "two masks": (line({**CAT, "box": [1, 2, 3, 4]}), "it has mask and box"),
    "size": (line(CAT, height=20), "write both in pixels, or neither"),
}
BAD_FILES = {
    "missing picture": (line(CAT, image="none.jpg"), "no image"),
    "escaping": (line(CAT, image="../a.jpg"), "leaves"),
    "absolute": (line(CAT, image="/etc/hostname"), "leaves"),
    "circle": (line(CAT, image="circle/a.jpg"), "circle|leaves|no image"),
    "no picture": (line(CAT, image="data.jsonl"), "cannot be decoded|no picture"),
    "size": (line(CAT, height=21, width=30), "20 x 30 .* masks are 21 x 30"),
    "run lengths": (
        line({"text": "a cat", "mask": {"size": [20, 30], "counts": [5]}}),
        "phrase 0 .'A cat'.: its run lengths cover",
    ),
    "two sizes": (
        line({"text": "a cat", "masks": ["ids.png", {"size": [2, 2], "counts": [4]}]}),
        r"run lengths are of size \[2, 2\]",
    ),
    "unknown id": (line({"text": "a cat", "mask": "ids.png", "id": 8}), "no pixel of id 8; it has 0, 7, 9"),
    "id of no number": (line({"text": "a cat", "mask": {"png": "ids.png", "id": "x"}}), "id 'x' .* no whole number"),
    "escaping mask": (line({"text": "a cat", "mask": "../ids.png"}), "leaves"),
    "missing mask": (line({"text": "a cat", "mask": "none.png"}), "no image"),
    "transparent mask": (line({"text": "a cat", "mask": "alpha.png"}), "has the mode RGBA"),
    "a lossy mask": (line({"text": "a cat", "mask": "mask.jpg"}), "mask.jpg is JPEG, which changes values"),
    "empty mask": (line({"text": "a cat", "mask": [50, 50, 60, 50, 60, 60]}), "A cat.* (is empty|has no pixel)"),
    "empty box": (line({"text": "a cat", "box": [3, 3, 3, 9]}), "has no pixel"),
    "a mask of words": (line({"text": "a cat", "mask": {"a": 1}}), "neither run lengths, polygons"),
}


@pytest.fixture
def bad_files(folder):
    (folder / "circle").symlink_to(folder / "circle2")
    (folder / "circle2").symlink_to(folder / "circle")
    Image.new("RGBA", SIZE[::-1]).save(folder / "alpha.png")
    return folder


def faults(file):
    return [f"{f.what}: {f.text}" for f in check_file(file).findings if f.state == "broken"]


@pytest.mark.parametrize("name", BAD)
def test_a_line_that_cannot_be_used(folder, reader, name):
    bad, message = BAD[name]
    file = write(folder, line(CAT), b"", bad)
    with pytest.raises(ValueError, match=message) as raised:
        OwnDataset(file, **reader)
    assert str(raised.value).startswith(f"{file}, line 3: ")
    found = faults(file)
    assert len(found) == 1
    assert found[0].startswith(f"{file}, line 3: ")


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_cannot_be_used(bad_files, reader, name):
    bad, message = BAD_FILES[name]
    file = write(bad_files, line(CAT), bad | {"text": bad["text"] + "!"})
    dataset = OwnDataset(file, **reader)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        dataset[1]
    assert f"{file}, line 2: " in str(raised.value)
    found = faults(file)
    assert len(found) == 1
    assert found[0].startswith(f"{file}, line 2: ")


def test_the_same_line_twice(folder, reader):
    file = write(folder, line(CAT), line({"text": "a mat", "mask": SQUARE}))
    with pytest.raises(ValueError, match="line 2: the same picture and text as in line 1"):
        OwnDataset(file, **reader)
    assert len(faults(file)) == 1


def test_a_line_without_end_is_named_and_not_kept(folder, reader, monkeypatch):
    monkeypatch.setattr(entries, "MAX_LINE", 1 << 20)
    huge = b'{"image": "' + b"a" * (3 << 20) + b'"}'
    file = write(folder, line(CAT), huge, line(CAT, text="Another cat, a cat."))
    (found,) = faults(file)
    assert "line 2: longer than 1 MB" in found
    with pytest.raises(ValueError, match="line 2: longer than"):
        OwnDataset(file, **reader)


def test_all_faults_at_once_and_a_contact_sheet(bad_files, capsys):
    file = write(bad_files, *(bad for bad, _ in (*BAD.values(), *BAD_FILES.values())), line(CAT))
    sheet = bad_files / "sheet.png"
    assert main(["data", "check", str(file), "--sheet", str(sheet)]) == 1
    report = check_file(file)
    lines = {finding.what.rpartition(" ")[2] for finding in report.findings if finding.state == "broken"}
    assert len(lines) == len(BAD) + len(BAD_FILES)
    with Image.open(sheet) as picture:
        assert picture.width == 320
    file = write(bad_files, line(CAT, {"text": "a mat", "mask": None}))
    assert main(["data", "check", str(file)]) == 0
    assert (bad_files / "data_sheet.jpg").is_file()
    assert "1 phrases have no target" in " ".join(capsys.readouterr().out.split())
    Image.new("RGB", (9, 9)).save(bad_files / "data_sheet.jpg")  # now one that is not ours
    assert main(["data", "check", str(file)]) == 1
    assert "was not drawn by flmm data check" in capsys.readouterr().err


def test_paths_start_at_another_folder(folder, reader):
    (folder / "lists").mkdir()
    file = write(folder, line(CAT)).rename(folder / "lists/data.jsonl")
    assert len(OwnDataset(file, root=folder, **reader)[0]["gt_masks"]) == 1
    assert not check_file(file, folder).is_broken
    assert check_file(file).is_broken


def test_mixing_by_weights():
    assert list(concat_datasets([list("ab"), list("xyz")])) == list("abxyz")
    mixed = concat_datasets([list("abcd"), list("xy")], weights=[0.5, 2.5])
    items = [mixed[index] for index in range(len(mixed))]
    assert items == [*"ac", *"xyxyx"]
    for weights in ([1], [1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="weight"):
            concat_datasets([list("ab"), list("xy")], weights=weights)


def test_no_file(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match="no data file"):
        OwnDataset(tmp_path / "none.jsonl", **reader)
    assert main(["data", "check", str(tmp_path / "none.jsonl")]) == 1
