"""No command writes onto what it reads; each is refused before a model is loaded, and both names are said."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from flmm.checkpoint import publish
from flmm.cli.main import main
from flmm.outputs import apart

ROOT = Path(__file__).parents[1]
CASE = {"id": "a", "image_path": "pictures/a.png", "question": "What?"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Inputs of all commands; the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "pictures/a.png", "chat/grounding.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20)).save(name)
    Path("cases.json").write_text(json.dumps({"samples": [CASE]}))
    Path("texts.tsv").write_text("a.png\tA cat.\n")
    line = {"image": "photo.jpg", "text": "A cat.", "phrases": [{"text": "A cat", "box": [1, 1, 9, 9]}]}
    Path("data.jsonl").write_text(json.dumps(line))
    for name in ("head.pth", "masks.json", "coco.json", "found/1.json", "data/annotations/a.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("{}")
    return tmp_path


COMMANDS = {
    "ground photo.jpg cat --out photo.jpg": "photo.jpg",
    "ground photo.jpg cat --coco ./photo.jpg": "photo.jpg",
    "ground pictures cat --out pictures": "pictures",
    "ground pictures cat --out ../{here}/pictures": "pictures",
    "ground pictures cat --masks pictures": "pictures",
    "ground pictures --text-file texts.tsv --coco texts.tsv": "texts.tsv",
    "chat chat/grounding.png --question What? --ground": "chat/grounding.png",
    "cases cases.json --out .": "pictures/a.png",
    "data check data.jsonl --sheet photo.jpg": "photo.jpg",
    "data convert coco coco.json --images pictures --overwrite --out coco.json": "coco.json",
}
SCRIPTS = {
    "demo/grounded_conversation.py --image photo.jpg --out photo.jpg": "photo.jpg",
    "demo/visualize_ranks.py photo.jpg head.pth --out photo.jpg": "photo.jpg",
    "eval_gcg.py --predictions found --captions coco.json --masks masks.json --output masks.json": "masks.json",
    "eval_gcg.py --predictions found --captions coco.json --masks masks.json --output found/1.json": "found/1.json",
    "deepspeed2torch_state_dict.py head.pth head.pth": "head.pth",
    "deepspeed2torch_state_dict.py found found": "found",
    "visual_cot/visual_cot_inference.py --benchmark c_visual_cot_v1 --save_folder . --checkpoint c": "c_visual_cot_v1",
}


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_does_not_write_onto_its_input(folder, capsys, words):
    before = content(folder)
    assert main(words.format(here=folder.name).split()) == 1
    assert f"it is what is read as {COMMANDS[words]}; choose another name" in capsys.readouterr().err
    assert content(folder) == before


@pytest.mark.parametrize("words", SCRIPTS)
def test_a_script_does_not_write_onto_its_input(folder, capsys, monkeypatch, words):
    shutil.copytree("found", "c_visual_cot_v1")
    Path("c_visual_cot_v1/1.json").write_text("[]")
    before = content(folder)
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / words.split()[0]), run_name="__main__")
    assert f"it is what is read as {SCRIPTS[words]}; choose another name" in f"{capsys.readouterr().err}{ended.value}"
    assert content(folder) == before


def test_links_are_the_same_file(folder):
    Path("link.jpg").symlink_to("photo.jpg")
    with pytest.raises(ValueError, match=r"cannot write link\.jpg: it is what is read as photo\.jpg"):
        apart(["link.jpg"], ["photo.jpg"])
    apart(["new.jpg", "pictures"], ["photo.jpg", "nowhere.jpg", folder])


def test_a_folder_of_other_files_is_none_for_results(folder, capsys):
    Path("mine").mkdir()
    Path("mine/a.png").write_bytes(b"mine")
    assert main(["ground", "pictures", "cat", "--out", "mine"]) == 1
    assert "mine holds a.png, which `flmm ground` did not write: name another --out" in capsys.readouterr().err
    assert Path("mine/a.png").read_bytes() == b"mine"


def test_a_file_of_data_may_hold_edits(folder, capsys):
    words = ["data", "convert", "coco", "coco.json", "--images", "pictures", "--out", "data.jsonl"]
    before = Path("data.jsonl").read_bytes()
    assert main(words) == 1
    assert (
        "data.jsonl exists, and may hold your edits: name another file, or add --overwrite" in capsys.readouterr().err
    )
    assert Path("data.jsonl").read_bytes() == before
    assert main([*words, "--overwrite"]) == 1
    assert "exists" not in capsys.readouterr().err, "it is allowed, and only this file is of another format"


def test_a_file_does_not_replace_a_folder(folder, capsys):
    before = content(folder)
    words = ["data", "convert", "coco", "coco.json", "--images", "pictures", "--out", "pictures", "--overwrite"]
    assert main(words) == 1
    assert "cannot write pictures: it is a folder" in capsys.readouterr().err
    assert content(folder) == before
    Path("part").write_text("new")
    with pytest.raises(IsADirectoryError):
        publish(Path("part"), "pictures")
    assert content(folder).items() >= before.items()


def test_two_results_are_not_written_as_one(folder):
    with pytest.raises(ValueError, match="two results would be written as"):
        apart([folder / "a.png", folder / "./a.png"], [])
