"""What a config names is found from any folder."""

from pathlib import Path

import pytest

from flmm.config import TINY_CONFIG, read_config, sample_settings

ROOT = Path(__file__).parents[1]


def test_weights_of_the_repository_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(TINY_CONFIG)
    lmm = str(ROOT / "checkpoints/tiny_llava")
    assert config.model.model.pretrained_model_name_or_path == lmm
    assert sample_settings(config)["tokenizer"]["pretrained_model_name_or_path"] == lmm
    assert config.model.sam.checkpoint == str(ROOT / "checkpoints/sam_vit_nano.pth")


def test_what_the_current_folder_has_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("checkpoints/tiny_llava").mkdir(parents=True)
    assert read_config(TINY_CONFIG).model.model.pretrained_model_name_or_path == "checkpoints/tiny_llava"


def test_a_missing_config_is_compared_with_those_of_the_repository_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"did you mean {TINY_CONFIG}"):
        read_config(TINY_CONFIG.replace("nano", "nana"))
    with pytest.raises(
        FileNotFoundError, match="config x does not exist: name one of .*/configs, or the path of yours"
    ):
        read_config("x")
