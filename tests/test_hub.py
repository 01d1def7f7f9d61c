"""Repositories of a hub on this machine: names, downloads that break or are damaged, offline, refusals, uploads."""

import os

import pytest
from hub_server import hub  # noqa: F401
from huggingface_hub import constants

from flmm.cli.download import WEIGHTS as WEIGHTS_OF_SAM
from flmm.cli.download import _meant
from flmm.cli.main import main
from flmm.hub import HubName, check_contents, fetch, hub_name, upload

WEIGHTS = os.urandom(200_000)
LMM = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": WEIGHTS[::-1],
    "tower/model.bin": b"only here",
    "gguf/model.gguf": b"x",
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user/head", ("user/head", None)),
        ("hf://user/head@v1.0", ("user/head", "v1.0")),
        ("user/head@main", ("user/head", "main")),
        ("work_dirs/run/iter_600.pth", None),
        ("configs/a.py", None),
        ("user/head.pth", None),
        ("head", None),
        ("/user/head", None),
        ("./head", None),
        ("../head", None),
    ],
)
def test_names(text, name):
    assert hub_name(text) == (name and HubName(*name))


def test_a_folder_that_exists_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user/head").mkdir(parents=True)
    assert hub_name("user/head") is None
    assert hub_name("hf://user/head") == HubName("user/head")


def test_names_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match=r"hf://head names no repository of the hub: write hf://user/name"):
        hub_name("hf://head")
    with pytest.raises(ValueError, match="names revision a, and b is asked for"):
        hub_name("user/head@a", "b")
    assert hub_name("user/head", "b") == HubName("user/head", "b")


def test_a_download_is_cached_and_of_its_revision(hub):  # noqa: F811
    first = hub.commit("user/head", {"a.safetensors": b"one"})
    hub.commit("user/head", {"a.safetensors": b"two"})
    hub.tags["user/head", "v1"] = first
    assert (fetch(HubName("user/head")) / "a.safetensors").read_bytes() == b"two"
    assert (fetch(HubName("user/head", "v1")) / "a.safetensors").read_bytes() == b"one"
    asked = [path for method, path in hub.asked if method == "GET" and "resolve" in path]
    fetch(HubName("user/head"))
    assert [path for method, path in hub.asked if method == "GET" and "resolve" in path] == asked


def test_offline_the_cache_is_enough(hub, monkeypatch):  # noqa: F811
    hub.commit("user/head", {"a.safetensors": b"one"})
    fetch(HubName("user/head"))
    hub.go_offline(monkeypatch)
    asked = len(hub.asked)
    assert (fetch(HubName("user/head")) / "a.safetensors").read_bytes() == b"one"
    with pytest.raises(FileNotFoundError, match="user/other .* HF_HUB_OFFLINE is set: run `flmm download user/other`"):
        fetch(HubName("user/other"))
    assert len(hub.asked) == asked


def test_without_network(hub, monkeypatch):  # noqa: F811
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(FileNotFoundError, match=r"http://127\.0\.0\.1:1 cannot be reached"):
        fetch(HubName("user/head"))


def test_refusals(hub, monkeypatch):  # noqa: F811
    hub.commit("user/mine", {"a.json": b"{}"})
    hub.commit("user/gated", {"a.json": b"{}"})
    hub.private.add("user/mine")
    hub.gated.add("user/gated")
    assert (fetch(HubName("user/mine")) / "a.json").is_file()
    with pytest.raises(FileNotFoundError, match="user/mine has no revision v9"):
        fetch(HubName("user/mine", "v9"))
    with pytest.raises(FileNotFoundError, match="user/gated wants its license accepted: do so on http"):
        fetch(HubName("user/gated"))
    with pytest.raises(FileNotFoundError, match="user/none is no folder here, and the hub knows no such"):
        fetch(HubName("user/none"))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", constants.HF_HUB_CACHE + "2")
    with pytest.raises(FileNotFoundError, match="check the name, or log in with `hf auth login`"):
        fetch(HubName("user/mine"))


def test_a_transfer_that_breaks_goes_on(hub):  # noqa: F811
    large = os.urandom(24 << 20)  # it is written in pieces of ten megabytes
    hub.commit("user/lmm", {"model.safetensors": large})
    hub.breaks, hub.limit = 2, 11 << 20
    folder = fetch(HubName("user/lmm"), pause=0)
    assert (folder / "model.safetensors").read_bytes() == large
    assert hub.breaks == 0
    assert hub.ranges == ["bytes=10485760-", "bytes=20971520-"]


@pytest.mark.slow
def test_a_transfer_that_breaks_every_time(hub):  # noqa: F811
    hub.commit("user/lmm", LMM)
    hub.breaks, hub.limit = 1000, 10
    with pytest.raises(ConnectionError, match="user/lmm: the transfer broke .* run it again, what is there is kept"):
        fetch(HubName("user/lmm"), allow=["*.safetensors"], pause=0)


def test_damage_is_noticed_and_mended(hub):  # noqa: F811
    hub.commit("user/lmm", LMM)
    hub.damaged = {"model.safetensors", "config.json"}
    folder = fetch(HubName("user/lmm"))
    with pytest.raises(ValueError, match=r"damaged and removed: config\.json, model\.safetensors; download it again"):
        check_contents(folder)
    hub.damaged = set()
    assert check_contents(fetch(HubName("user/lmm"))) == len(LMM)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_an_upload_comes_back(hub, tmp_path):  # noqa: F811
    (tmp_path / "head.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A head\n")
    address = upload(tmp_path, HubName("user/new"), private=True)
    assert address == f"{hub.url}/user/new"
    assert "user/new" in hub.private
    assert hub.files("user/new")["head.safetensors"] == WEIGHTS
    (tmp_path / "README.md").write_text("changed")
    upload(tmp_path, HubName("user/new"))
    folder = fetch(HubName("user/new"))
    assert (folder / "README.md").read_text() == "changed"
    assert (folder / "head.safetensors").read_bytes() == WEIGHTS


def test_an_upload_without_rights(hub, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(FileNotFoundError, match="the hub refuses user/new .401.: log in"):
        upload(tmp_path, HubName("user/new"))
    assert not hub.repositories


def test_download_takes_what_is_needed_and_compares(hub, capsys):  # noqa: F811
    hub.commit("user/lmm", LMM)
    assert main(["download", "user/lmm", "--dry-run"]) == 0
    assert not [path for _, path in hub.asked if "resolve" in path]
    assert main(["download", "user/lmm"]) == 0
    assert "3 files, and their checksums are right" in capsys.readouterr().out
    folder = fetch(HubName("user/lmm"), allow=["config.json"])
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == [
        "config.json",
        "model.safetensors",
        "tower/model.bin",
    ]
    assert main(["download", "user/none"]) == 1
    assert "flmm download: user/none is no folder here" in capsys.readouterr().err


def test_download_knows_what_a_config_needs():
    config = "configs/llava/frozen_llava_1_5_vicuna_7b_unet_sam_l_refcoco_png.py"
    sam, *repositories = _meant(config)
    assert sam is WEIGHTS_OF_SAM["sam_vit_l"]
    assert list(map(str, repositories)) == ["llava-hf/llava-1.5-7b-hf", "openai/clip-vit-large-patch14-336"]
    with pytest.raises(ValueError, match="sam_vit_x: name one of sam_vit_b, .* a repository of the hub as user/name"):
        list(_meant("sam_vit_x"))


def test_sam_that_is_there_is_compared(tmp_path, capsys):
    (tmp_path / "mobile_sam.pt").write_bytes(b"cut off")
    assert main(["download", "mobile_sam", "--root", str(tmp_path)]) == 1
    assert "mobile_sam.pt has SHA-256" in capsys.readouterr().err
