"""Heads as folders and on a hub of this machine: saved, uploaded, loaded by name; nothing that they say is run."""

import json

import numpy as np
import pytest
import torch
from hub_server import hub  # noqa: F401
from huggingface_hub import ModelCard
from PIL import Image

import flmm
from flmm.checkpoint import load_head, read_head, trainable
from flmm.cli.main import main
from flmm.config import TINY_CHECKPOINT, TINY_CONFIG, build_model, read_config
from flmm.evaluation.identity import model_identity
from flmm.head_folder import find_head, head_config, head_file, measured, save_head
from flmm.training.fingerprint import file_digest

FILES = ["README.md", "config.json", "example.png", "head.safetensors"]
TEXT, PHRASES = "a large green circle in the sky above a small red cross on the road .", ["a large green circle"]


@pytest.fixture(scope="module")
def picture():
    """Sky, road, and a circle."""
    rows, columns = np.mgrid[:200, :240]
    image = np.where((rows < 100)[..., None], (120, 170, 230), (90, 90, 95)).astype(np.uint8)
    image[(rows - 60) ** 2 + (columns - 70) ** 2 < 900] = (30, 160, 60)
    return Image.fromarray(image)


@pytest.fixture(scope="module")
def model():
    return flmm.load()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.save_pretrained(tmp_path_factory.mktemp("heads") / "mine", license="cc-by-4.0")


def same(one, other, picture):
    """Whether two models say the same of a picture, bit for bit."""
    found = [model.ground(picture, TEXT, PHRASES) for model in (one, other)]
    return all(
        np.array_equal(getattr(found[0], name), getattr(found[1], name))
        for name in ("masks", "scores", "attention_maps")
    )


def test_a_folder_is_loaded_as_it_was_saved(model, folder, picture):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    again = flmm.load(folder)
    assert same(model, again, picture)
    assert again.checkpoint == folder / "head.safetensors"
    saved = read_head(folder)
    assert saved.keys() == trainable(model.model).keys()


def test_the_card_has_picture_license_and_what_it_needs(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "flmm"
    assert card.data.get("base_model") is None  # no name of the hub
    assert "](example.png)" in card.text
    assert "`checkpoints/tiny_llava`" in card.text
    assert f'flmm.load("{folder}")' in card.text
    assert "None are known." in card.text
    assert Image.open(folder / "example.png").size > (300, 300)


def test_the_config_is_data_of_the_same_model(model, folder):
    data = json.loads((folder / "config.json").read_text())
    assert data["model"]["type"] == "flmm.models.frozen_llava.FrozenLlavaSAM"
    assert not [text for text in json.dumps(data).split('"') if text.startswith("/")]  # no path of this machine
    built = build_model(head_config(folder), folder)
    for name, value in trainable(built).items():
        assert torch.equal(value, trainable(model.model)[name])


def test_a_folder_is_written_over_and_its_other_files_stay(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    model.save_pretrained(tmp_path)
    first = (tmp_path / "head.safetensors").stat().st_mtime_ns
    model.save_pretrained(tmp_path, metrics={"png": {"val": {"average recall": 0.75, "captions": 100}}})
    assert (tmp_path / "head.safetensors").stat().st_mtime_ns > first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "metrics.json", "notes.txt"])
    assert "| png / val / average recall | 0.75 |" in (tmp_path / "README.md").read_text()
    model.save_pretrained(tmp_path, metrics={})
    assert not (tmp_path / "metrics.json").exists(), "figures of the earlier head"


@pytest.mark.parametrize("mine", [["README.md", "config.json"], ["README.md", "head.safetensors"], ["metrics.json"]])
def test_files_that_are_no_heads_are_not_replaced(model, tmp_path, mine):
    for name in mine:
        (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"would replace {', '.join(mine)} there: name another folder"):
        model.save_pretrained(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(mine, "mine")


def test_what_was_measured_with_the_checkpoint_is_found(tmp_path, model):
    results = tmp_path / "work_dirs/tiny/eval/head"
    results.mkdir(parents=True)
    run = {"weights": file_digest(model.checkpoint), "limit": None, "splits": {"val": {"cIoU": 0.5}}}
    others = {"refcoco": run, "part": run | {"limit": 3}, "other": run | {"weights": "0"}}
    for name, content in others.items():
        (results / f"{name}.json").write_text(json.dumps(content))
    assert measured(model.checkpoint, tmp_path / "work_dirs") == {"refcoco": {"val": {"cIoU": 0.5}}}
    assert measured(None) == {}


def test_up_and_down_by_name(hub, model, picture, tmp_path, monkeypatch, capsys):  # noqa: F811
    address = model.push_to_hub("user/head", private=True)
    assert address == f"{hub.url}/user/head"
    assert sorted(set(hub.files("user/head")) - {".gitattributes"}) == FILES
    assert b'flmm.load("user/head")' in hub.files("user/head")["README.md"]
    hub.tags["user/head", "v1"] = list(hub.repositories["user/head"])[-1]
    hub.commit("user/head", {"head.safetensors": b"spoilt"})
    assert same(model, flmm.load("user/head", revision="v1"), picture)
    with pytest.raises(ValueError, match=r"cannot read checkpoint .*head\.safetensors"):
        flmm.load("user/head")
    hub.go_offline(monkeypatch)
    picture.save(tmp_path / "picture.png")
    command = ["ground", str(tmp_path / "picture.png"), TEXT, "--phrase", *PHRASES, "--out", str(tmp_path / "out.png")]
    assert main([*command, "--checkpoint", "hf://user/head@v1"]) == 0
    assert main([*command, "--config", TINY_CONFIG, "--checkpoint", "user/head@v1"]) == 0
    assert main([*command, "--checkpoint", "user/head@v2"]) == 1
    assert "HF_HUB_OFFLINE is set: run `flmm download user/head@v2`" in capsys.readouterr().err


def test_a_config_may_name_a_head_of_the_hub(hub, folder, model):  # noqa: F811
    hub.commit("user/head", {path.name: path.read_bytes() for path in folder.iterdir()})
    config = read_config(TINY_CONFIG)
    config.model["pretrained"] = "hf://user/head"
    built = build_model(config)
    assert torch.equal(built.text_layer_weights, model.model.text_layer_weights)
    identity = model_identity({}, {}, "hf://user/head")  # what records of an evaluation are bound to
    assert identity["weights"] == file_digest(folder / "head.safetensors")


def test_what_is_no_head(hub, tmp_path):  # noqa: F811
    hub.commit("user/lmm", {"config.json": b"{}"})
    with pytest.raises(ValueError, match=r"user/lmm holds no head of F-LMM: it has no head\.safetensors"):
        find_head("user/lmm")
    assert find_head(tmp_path) is None
    with pytest.raises(
        FileNotFoundError, match=r"checkpoint checkpoints/none\.pth does not exist.*checkpoints/README\.md"
    ):
        head_file("checkpoints/none.pth")
    (tmp_path / "head.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json: name the config of the head"):
        head_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        head_config(tmp_path)


@pytest.mark.parametrize(
    "evil",
    [
        {"type": "os.system", "command": "touch was_here"},
        {"type": "mmengine.utils.install_package", "package": "evil"},
        {"type": "flmm.checkpoint.publish", "part": "a", "path": "b"},
        {"$name": "builtins.exec"},
        {"type": "transformers.AutoModel.from_pretrained", "trust_remote_code": True},
    ],
)
def test_nothing_of_a_folder_is_run(folder, tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    data = json.loads((folder / "config.json").read_text())
    data["model"]["loss_mask"] = evil
    (tmp_path / "config.json").write_text(json.dumps(data))
    (tmp_path / "head.safetensors").write_bytes((folder / "head.safetensors").read_bytes())
    with pytest.raises(ValueError, match="name the config file yourself"):
        flmm.load(tmp_path)
    assert not (tmp_path / "was_here").exists()


def test_a_model_without_config_cannot_be_saved(model, tmp_path):
    bare = flmm.GroundingModel(model.model, model.builder)
    with pytest.raises(ValueError, match="the model has no config: load it with flmm.load"):
        save_head(bare, tmp_path / "head")
    assert not (tmp_path / "head").exists()


def test_heads_of_the_reference_load_as_they_are(model):
    """A .pth of parameters under the reference's names, without a config."""
    assert load_head(model.model, TINY_CHECKPOINT).unexpected == []
