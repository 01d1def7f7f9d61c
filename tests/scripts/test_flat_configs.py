"""Configs in the reference's form, for each of its ten models: two training steps, resumed for a third, evaluated."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from families import FAMILIES, ROOT, TRAINED, WITH_IMAGE, with_words
from flat_configs import FLAT, flat_config
from mmengine.config import Config
from remote_projector import write_remote_projector
from typed import typed, without_waiting

from flmm.checkpoint import read_checkpoint, read_head, trainable
from flmm.config import build_model, read_config
from flmm.datasets.shapes import make_shapes
from flmm.training.check_config import check_config

pytestmark = pytest.mark.slow
TINY = """
from xtuner.engine.hooks import DatasetInfoHook

custom_hooks = [dict(type=DatasetInfoHook, tokenizer=tokenizer)]
model['mask_head'].update(base_channels=8)
model['sam'].update(model_name='vit_nano', checkpoint='checkpoints/sam_vit_nano.pth')
"""
PARTS = ("visual_encoder", "llm")  # of HPT


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("data") / "coco", train=4, val=3, workers=1)


def lay_out(key, root, shapes):
    """A user's folder: the flat config, tiny weights under the names of the hub, data."""
    if key == "llava_next_vicuna":
        with_words("llava_next_a", FLAT[key].lmm_name, WITH_IMAGE)(root)
    else:
        FAMILIES[key].write(root)
    if key.startswith("hpt"):
        repository = root / FLAT[key].lmm_name
        widths = (json.loads((repository / part / "config.json").read_text())["hidden_size"] for part in PARTS)
        (repository / "projector/model.safetensors").unlink()
        write_remote_projector(repository / "projector", *widths)
    (root / "checkpoints").symlink_to(ROOT / "checkpoints")
    (root / "data").mkdir()
    (root / "data/coco").symlink_to(shapes)
    config = root / f"{key}.py"
    config.write_text(flat_config(key) + TINY)
    return config


def training(config, steps, *words):
    """Words that train `config` in the folder `run` until a step."""
    options = ("train_cfg.max_epochs=None", f"train_cfg.max_iters={steps}", "default_hooks.checkpoint.interval=1")
    return config, "--work-dir", "run", *words, "--cfg-options", *options


@pytest.fixture(scope="module", params=list(FLAT))
def trained(request, shapes, tmp_path_factory):
    """A user's folder after two steps, and a third after resuming."""
    root = tmp_path_factory.mktemp(request.param)
    config = lay_out(request.param, root, shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with patch.context() as runs:
            without_waiting(runs)
            runs.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, False))  # seconds of layout
            typed(runs, "xtuner.tools.train", *training(config, 2))
            typed(runs, "xtuner.tools.train", *training(config, 3, "--resume", "run/iter_2.pth"))
        yield SimpleNamespace(root=root, config=config, patch=patch)


def test_two_steps_and_a_resumed_one(trained):
    check_config(Config.fromfile(trained.config))
    saved = [path.name for path in (trained.root / "run").glob("iter_*.pth")]
    assert saved == ["iter_3.pth"]  # max_keep_ckpts=1
    checkpoint = read_checkpoint(trained.root / "run/iter_3.pth")
    assert checkpoint["meta"]["iter"] == 3
    assert all(name.startswith(TRAINED) for name in checkpoint["state_dict"])
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_evaluation(trained):
    words = (trained.config, "--checkpoint", "run/iter_3.pth", "--limit", 1, "--output", "eval")
    typed(trained.patch, ROOT / "scripts/multiprocess_eval_png.py", *words)
    assert json.loads((trained.root / "eval/png.json").read_text())["splits"]["val"]["images"] == 1


def test_the_real_commands(shapes, tmp_path, monkeypatch):
    """`xtuner train` has our runner from the start, with DeepSpeed too (flmm_early).

    `flmm train` goes on from a plain run, and the DeepSpeed folder is evaluated.
    """
    config = lay_out("llava15", tmp_path, shapes)
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    first, last = training(config, 1), training(config, 2, "--resume")

    def command(*words):
        process = subprocess.run(list(map(str, words)), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr[-3000:]
        assert "optim_wrapper = dict(" not in process.stdout + process.stderr  # the config is in the log file
        return process

    for words in (("xtuner", "train", *first), ("flmm", "train", *last)):
        process = command(*words)
    saved = [path.name for path in (tmp_path / "run").glob("iter_*.pth")]
    assert saved == ["iter_2.pth"], process.stdout[-3000:]
    assert all(name.startswith(TRAINED) for name in read_checkpoint(tmp_path / "run/iter_2.pth")["state_dict"])
    _, _, _, *options = first
    command("xtuner", "train", config, "--work-dir", "deep", "--deepspeed", "deepspeed_zero2", *options)
    assert all(name.startswith(TRAINED) for name in read_head(tmp_path / "deep/iter_1.pth"))
    monkeypatch.chdir(tmp_path)
    words = (config, "--checkpoint", "deep/iter_1.pth", "--limit", 1, "--output", "eval")
    typed(monkeypatch, ROOT / "scripts/multiprocess_eval_png.py", *words)
    assert json.loads(Path("eval/png.json").read_text())["splits"]["val"]["images"] == 1


def test_a_script_in_the_references_form_gives_our_figures(shapes, tmp_path, monkeypatch):
    """It imports mmdet before flmm, loads the head with xtuner, and makes its data sets and loop itself."""
    config = lay_out("llava15", tmp_path, shapes)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = build_model(read_config(config))
    torch.save({"state_dict": trainable(model)}, "head.pth")
    words = (ROOT / "tests/helpers/script_in_reference_form.py", config, "head.pth")
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    for script, *more in (("png", "--split", "val"), ("refcoco", "--split", "refcoco_val", "--concat")):
        options = ("--checkpoint", "head.pth", "--output", "eval", *more)
        typed(monkeypatch, ROOT / f"scripts/multiprocess_eval_{script}.py", config, *options)
    png = json.loads(Path("eval/png.json").read_text())["splits"]["val"]["refined"]["all"]
    assert png["phrases"] == theirs["png"]["phrases"]
    assert png["average_recall"] == pytest.approx(theirs["png"]["mean"], abs=1e-3)
    res = json.loads(Path("eval/res_concat.json").read_text())["splits"]["refcoco_val"]["refined"]
    for key in ("cIoU", "mIoU"):
        assert res[key] == pytest.approx(theirs["refcoco"][key], abs=1e-3)
