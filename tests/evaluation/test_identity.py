"""Records are bound to everything that a result depends on."""

import os

import pytest
from huggingface_hub import constants

from flmm.evaluation.identity import data_identity, model_identity
from flmm.training import fingerprint


@pytest.fixture
def config(tmp_path):
    for name in ("lmm/model.safetensors", "lmm/config.json", "tokenizer/tokenizer.json", "sam.pth", "head.pth"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return {
        "model": {
            "model": {"pretrained_model_name_or_path": str(tmp_path / "lmm")},
            "sam": {"checkpoint": str(tmp_path / "sam.pth")},
            "hub": {"pretrained_model_name_or_path": "someone/lmm"},
        },
        "reading": {
            "tokenizer": {"pretrained_model_name_or_path": str(tmp_path / "tokenizer")},
            "prompt": "<image>\na/b",
        },
        "head": tmp_path / "head.pth",
    }


def identity(config):
    return model_identity(config["model"], config["reading"], config["head"])


@pytest.mark.parametrize("huge", [False, True])
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("lmm/model.safetensors", "file {}/lmm"),
        ("lmm/config.json", "file {}/lmm"),
        ("tokenizer/tokenizer.json", "file {}/tokenizer"),
        ("sam.pth", "file {}/sam.pth"),
        ("head.pth", "weights"),
    ],
)
def test_a_file_that_was_replaced_is_another_run(config, tmp_path, file, key, huge, monkeypatch):
    monkeypatch.setattr(fingerprint, "READ_AT_MOST", 0 if huge else 2**20)
    before = identity(config)
    assert identity(config) == before
    (tmp_path / file).write_text(file.upper())  # of the same size
    os.utime(tmp_path / file, ns=(1, 1))
    after = identity(config)
    assert {name for name in before if before[name] != after[name]} == {key.format(tmp_path)}


def test_a_file_that_was_copied_is_the_same(config, tmp_path):
    before = identity(config)
    os.utime(tmp_path / "sam.pth", ns=(1, 1))
    assert identity(config) == before


def test_another_commit_of_a_hub_repository_is_another_run(config, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    main = tmp_path / "hub/models--someone--lmm/refs/main"
    main.parent.mkdir(parents=True)
    main.write_text("abc")
    before = identity(config)
    assert before["file someone/lmm"] == "abc"
    main.write_text("def")
    assert identity(config)["file someone/lmm"] == "def"


def test_pictures_and_annotations_that_were_replaced_are_other_data(tmp_path):
    (tmp_path / "val").mkdir()
    for name in ("val/1.jpg", "a.json"):
        (tmp_path / name).write_text(name)

    def found():
        return data_identity((tmp_path / "a.json",), (tmp_path / "val", tmp_path / "none"))

    before = found()
    (tmp_path / "val/1.jpg").write_text("another")
    assert found()["pictures"] != before["pictures"]
    (tmp_path / "a.json").write_text("other.")
    assert found()["annotations"] != before["annotations"]
