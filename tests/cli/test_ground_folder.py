"""`flmm ground FOLDER`, with a model that needs no weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from safetensors.torch import save_file

from flmm import api
from flmm.boxes import object_boxes
from flmm.cli.main import main
from flmm.datasets.own.entries import parse
from flmm.masks import decode_mask

CONFIG = str(Path(__file__).parents[1] / "helpers" / "fake_config.py")
LINES = (
    "a.jpg\tThe red circle is next to a big dog.\tthe red circle\ta big dog\n\nb.png\tA cat.\na.jpg\tA dog and a dog.\n"
)


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    Image.fromarray(pixels[:, :50]).save(tmp_path / "b.png")
    (tmp_path / "texts.tsv").write_text(LINES)
    save_file({"mask_head.weight": torch.zeros(2, 2), "mask_head.bias": torch.zeros(2)}, tmp_path / "head.safetensors")
    return tmp_path


def command(folder, *words):
    model = ["--config", CONFIG, "--checkpoint", str(folder / "head.safetensors"), "--device", "cpu"]
    return main(["ground", str(folder), *map(str, words), *model])


def test_texts_of_a_file_are_grounded_and_written_in_all_formats(folder, capsys, monkeypatch):
    out, coco = folder / "out", folder / "found/coco.json"
    words = ("--text-file", folder / "texts.tsv", "--out", out, "--masks", folder / "masks", "--coco", coco)
    assert command(folder, *words) == 0
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.out.splitlines()] == [  # nothing of what was loaded
        f"3 texts, 0 of them are in {out} already",
        "3 texts grounded, 0 failed",
    ]
    assert "Loading weights" not in said.err
    assert "100%| 3/3" in said.err
    assert {path.name for path in out.glob("*.png")} == {"a.png", "b.png", "a.2.png"}
    lines = (out / "results.jsonl").read_bytes().splitlines()
    entries = [parse(line) for line in lines]  # the format of docs/own_data.md
    assert [entry.image for entry in entries] == ["a.jpg", "b.png", "a.jpg"]
    assert entries[0].words == ["The red circle", "a big dog"]
    first = json.loads(lines[0])["phrases"][0]
    mask = np.array(Image.open(folder / "masks/a_0_The_red_circle.png"))
    np.testing.assert_array_equal(mask == 255, decode_mask(first["mask"]))
    assert 0.5 < first["score"] < 1
    assert len(list((folder / "masks").iterdir())) == 4

    read = COCO(str(coco))
    assert [image["file_name"] for image in read.dataset["images"]] == ["a.jpg", "b.png"]
    annotation = read.anns[1]
    np.testing.assert_array_equal(read.annToMask(annotation), mask // 255)
    x0, y0, x1, y1 = object_boxes(mask[None] > 0)[0]
    assert annotation["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    assert annotation["area"] == (mask > 0).sum()
    assert read.cats[annotation["category_id"]]["name"] == "the red circle"

    monkeypatch.setattr(api, "load", None)  # nothing is left to do
    assert command(folder, *words) == 0
    assert "3 of them are in" in capsys.readouterr().out


def test_another_threshold_or_text_is_grounded_again(folder, capsys):
    assert command(folder, "A cat.", "--out", folder / "out") == 0
    before = json.loads((folder / "out/results.jsonl").read_text().splitlines()[0])
    assert command(folder, "A cat.", "--out", folder / "out", "--threshold", "0.9") == 0
    after = json.loads((folder / "out/results.jsonl").read_text().splitlines()[0])
    assert "0 of them are in" in capsys.readouterr().out
    assert decode_mask(after["phrases"][0]["mask"]).sum() < decode_mask(before["phrases"][0]["mask"]).sum()


def test_a_damaged_picture_does_not_stop_the_others(folder, capsys):
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:500])
    assert command(folder, "A cat.", "--out", folder / "out") == 1
    said = capsys.readouterr()
    assert "a.jpg: " in said.err
    assert "1 text grounded, 1 failed" in said.out
    assert (folder / "out/b.png").is_file()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a.jpg\n", "line 1: no text"),
        ("a.jpg\tA cat.\nc.jpg\tA cat.\n", r"line 2: no picture .*c.jpg"),
        ("a.jpg\tA cat.\ta dog\n", "line 1: .*'a dog' is not in the text"),
    ],
)
def test_lines_are_checked_before_the_model_is_loaded(folder, lines, message, capsys, monkeypatch):
    import re

    monkeypatch.setattr(api, "load", None)
    (folder / "texts.tsv").write_text(lines)
    assert command(folder, "--text-file", folder / "texts.tsv", "--out", folder / "out") == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_text_file_must_be_there_and_be_text(folder, capsys):
    assert command(folder, "--text-file", folder / "none.tsv") == 1
    assert f"no text file {folder}/none.tsv: write one with lines PICTURE, a tab, TEXT" in capsys.readouterr().err
    assert command(folder, "--text-file", folder / "a.jpg") == 1
    assert "a.jpg is no text in UTF-8" in capsys.readouterr().err


def test_a_missing_head_is_said_where_to_get(folder, capsys):
    model = ["--config", CONFIG, "--checkpoint", "checkpoints/frozen_deepseek.pth"]
    for image, out in (folder, "out"), (folder / "a.jpg", "out.png"):
        assert main(["ground", str(image), "A cat.", *model, "--out", str(folder / out)]) == 1
        said = capsys.readouterr().err
        assert "checkpoint checkpoints/frozen_deepseek.pth does not exist: `flmm train` saves one" in said
        assert "checkpoints/README.md" in said


def test_a_folder_needs_one_kind_of_text(folder, capsys):
    assert command(folder) == 1
    assert "give one text for all of its pictures, or --text-file" in capsys.readouterr().err
    assert main(["ground", str(folder / "a.jpg"), "--text-file", "x.tsv"]) == 1
    assert "is no folder: give one TEXT" in capsys.readouterr().err
