"""A checkpoint carries its config as data: the same model is built from it anywhere, and nothing it says is run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flmm
from flmm.checkpoint import read_checkpoint
from flmm.config import (
    TINY_CHECKPOINT,
    TINY_CONFIG,
    checkpoint_config,
    data_root,
    evaluation_settings,
    read_config,
)
from flmm.config_data import from_data, to_data
from flmm.paths import ROOT

HELPERS = Path(__file__).parent / "helpers"
LEAVES = sorted(file for file in (ROOT / "configs").rglob("frozen_*.py") if "hpt" not in file.stem)


@pytest.fixture
def data():
    return json.loads(json.dumps(to_data(read_config(TINY_CONFIG))))


def test_the_config_of_a_checkpoint_says_what_its_file_says(data, tmp_path):
    """Evaluation binds records to these dictionaries, so they must be the same to the letter."""
    written, config = from_data(data, tmp_path).to_dict(), read_config(TINY_CONFIG).to_dict()
    lists = json.loads(json.dumps(config["model"]))  # a tuple comes back as a list
    assert json.loads(json.dumps(written["model"])) == lists
    assert evaluation_settings(written) == evaluation_settings(config)


def test_evaluation_reads_the_same_data_in_the_same_way(tmp_path):
    config = read_config(TINY_CONFIG)
    config.train_dataloader.dataset.datasets_list[0].allow_empty_masks = True
    read = from_data(json.loads(json.dumps(to_data(config))), tmp_path)
    assert evaluation_settings(read)["allow_empty_masks"] is True
    assert Path(data_root(read)).resolve() == Path(data_root(config)).resolve()


def test_paths_of_the_repository_are_relative_and_those_of_another_machine_are_found_again(data, tmp_path, monkeypatch):
    assert data["model"]["sam"]["checkpoint"] == "checkpoints/sam_vit_nano.pth"
    monkeypatch.chdir(tmp_path)
    assert from_data(data, tmp_path).model.sam.checkpoint == str(ROOT / "checkpoints/sam_vit_nano.pth")
    (tmp_path / "sam.pth").touch()
    data["model"]["sam"]["checkpoint"] = "/disk/of/another/machine/sam.pth"
    assert from_data(data, tmp_path).model.sam.checkpoint == str(tmp_path / "sam.pth")
    data["model"]["sam"]["checkpoint"] = "/disk/of/another/machine/none.pth"
    assert from_data(data, tmp_path).model.sam.checkpoint == "/disk/of/another/machine/none.pth"
    data["model"]["model"]["pretrained_model_name_or_path"] = "llava-hf/llava-1.5-7b-hf"
    lmm = from_data(data, tmp_path).model.model
    assert lmm.pretrained_model_name_or_path == "llava-hf/llava-1.5-7b-hf"
    assert lmm.dtype is torch.float32


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "flmm.models.loading.os.system",
        "flmm.cli.main.main",
        "flmm.download.download",
        "torch.load",
        "torch.hub.load",
        "transformers.Trainer",
        "transformers.utils.logging.os.system",
        "builtins.exec",
        "antigravity",
        "transformers.NoSuchClass.from_pretrained",
    ],
)
@pytest.mark.parametrize("place", ["type", "elsewhere"])
def test_a_checkpoint_cannot_name_what_is_no_part_of_a_model(name, place, tmp_path):
    part = {"type": name} if place == "type" else {"argument": {"$name": name}}
    with pytest.raises(ValueError, match=rf"names {name}, which is no model"):
        from_data({"model": {"mask_head": part}}, tmp_path)


def test_a_checkpoint_cannot_have_code_of_a_model_repository_run(tmp_path):
    lmm = {"type": "transformers.AutoModel.from_pretrained", "trust_remote_code": True}
    with pytest.raises(ValueError, match=r"trust_remote_code.*name the config file yourself"):
        from_data({"model": {"model": lmm}}, tmp_path)


def test_what_has_no_name_cannot_be_saved():
    config = read_config(HELPERS / "fake_config.py")
    config.model.scale = lambda x: x
    with pytest.raises(ValueError, match=r"`model\.scale` holds <function"):
        to_data(config)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.stem)
def test_every_config_can_be_saved_and_read(leaf, tmp_path):
    config = read_config(leaf)
    read = from_data(json.loads(json.dumps(to_data(config))), tmp_path)
    assert json.loads(json.dumps(read.model.to_dict(), default=str)) == json.loads(
        json.dumps(config.model.to_dict(), default=str)
    )


def test_a_model_is_loaded_from_its_checkpoint_alone(data, tmp_path, monkeypatch):
    head = read_checkpoint(TINY_CHECKPOINT)["state_dict"]
    torch.save({"state_dict": head, "meta": {"flmm_config": json.dumps(data)}}, tmp_path / "head.pth")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8))
    expected = flmm.load().ground(picture, "a red circle", ["a red circle"])
    monkeypatch.chdir(tmp_path)
    for model in (flmm.load("head.pth"), flmm.load(checkpoint="head.pth")):
        found = model.ground(picture, "a red circle", ["a red circle"])
        assert np.array_equal(found.attention_maps, expected.attention_maps)
        assert np.array_equal(found.masks, expected.masks)


@pytest.mark.parametrize("content", [{}, {"meta": {"cfg": "model = dict()"}}])
def test_an_old_or_released_head_asks_for_its_config(content, tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, **content}, tmp_path / "old.pth")
    with pytest.raises(ValueError, match=r"old\.pth carries no config .*--config CONFIG"):
        checkpoint_config(tmp_path / "old.pth")
