"""`flmm new-backbone`: the config of a folder is written by asking its files, and reads as the one written by hand."""

import re
import shutil
from pathlib import Path

import pytest
from hf_tiny import FAMILIES

from flmm.cli.main import main
from flmm.config import read_config, sample_settings
from flmm.models.grids import PatchGrid, TileGrid

ROOT = Path(__file__).parents[2]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}PICTURE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def out(tmp_path):
    """Where the config is written: a folder beside the bases that it stands on."""
    shutil.copytree(ROOT / "configs/_base_", tmp_path / "configs/_base_")
    return tmp_path / "configs/own/frozen_new.py"


def saved(name, folder, picture):
    """A folder with config, processor and chat template, and no weights."""
    lmm, settings = FAMILIES[name].build()
    lmm.config.save_pretrained(folder)
    processor = settings["image_processor"].processor
    processor.chat_template = CHATML.replace("PICTURE", picture)
    processor.save_pretrained(folder)
    return str(folder)


def test_a_config_is_written_by_asking(tmp_path, out, capsys):
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    folder = saved("qwen2_vl", tmp_path / "tiny-qwen2-vl", picture)
    assert main(["new-backbone", folder, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "ok   PatchGrid(): " in said
    assert "not known: whether the LMM was trained on several pictures" in said
    assert len(out.read_text().splitlines()) <= 25
    config = read_config(out)
    settings = sample_settings(config)
    assert config.model.grid.type is PatchGrid
    assert config.model.model.pretrained_model_name_or_path == folder
    assert settings["image_token"] == "<|image_pad|>"
    assert settings["prompt"].startswith(picture)
    assert dict(settings["prompt_template"]) == {
        "INSTRUCTION": "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        "SUFFIX": "<|im_end|>",
        "SEP": "\n",
        "SYSTEM": "<|im_start|>system\n{system}<|im_end|>\n",
    }
    assert main(["new-backbone", folder, "--out", str(out)]) == 1
    assert "exists: remove it" in capsys.readouterr().err


def test_tiles_are_found_and_what_a_chat_template_does_not_say(tmp_path, out, capsys):
    folder = saved("smolvlm", tmp_path / "tiny-smolvlm", "<picture>")
    assert main(["new-backbone", folder, "--out", str(out)]) == 0
    config = read_config(out)
    assert config.model.grid.type is TileGrid
    assert sample_settings(config)["prompt"].startswith("<image>")
    assert "what stands around a picture: the chat template writes '<picture>'" in capsys.readouterr().out


def test_a_model_that_cannot_be_had_is_one_line(tmp_path, out, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    for name, fault in (
        ("nope/nope", "nope/nope is not in .*, and the hub is off: `hf download nope/nope`"),
        ("nope", "nope is no folder: copy the LMM there, or name it as the hub does"),
        (str(tmp_path / "empty"), "Unrecognized model in .*config.json"),
    ):
        assert main(["new-backbone", name, "--out", str(out)]) == 1
        assert re.match(f"flmm new-backbone: .*{fault}", capsys.readouterr().err)


def test_a_place_without_bases_is_refused(tmp_path, capsys):
    assert main(["new-backbone", "anything", "--out", str(tmp_path / "configs/own/x.py")]) == 1
    assert "_base_/image_text.py is missing" in capsys.readouterr().err
