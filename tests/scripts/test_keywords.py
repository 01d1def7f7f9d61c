"""A keyword selector is trained onto the embedded head, then evaluated: the commands of docs/training.md."""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
import torch

from flmm.checkpoint import read_head
from flmm.cli.train import add_arguments, run
from flmm.config import TINY_CHECKPOINT, TINY_CONFIG
from flmm.datasets.shapes import make_shapes

ROOT = Path(__file__).parents[2]


def test_a_selector_needs_a_head():
    parser = ArgumentParser()
    add_arguments(parser)
    with pytest.raises(ValueError, match=r"--only keywords .*load_from=HEAD.pth"):
        run(
            parser.parse_args([str(ROOT / TINY_CONFIG), "--only", "keywords", "--cfg-options", "train_cfg.max_iters=1"])
        )


def command(*words, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.slow
def test_trained_and_evaluated(tmp_path):
    for name in ("configs", "checkpoints", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    make_shapes(tmp_path / "data/shapes", train=24, val=5, workers=1)
    settings = [f"load_from={TINY_CHECKPOINT}", "train_dataloader.num_workers=0", "train_dataloader.batch_size=8"]
    settings += [
        "train_cfg.max_iters=30",
        "param_scheduler.0.end=1",
        "param_scheduler.1.begin=1",
        "param_scheduler.1.end=30",
    ]
    settings += ["optim_wrapper.optimizer.lr=0.03"]
    settings += ["default_hooks.checkpoint.interval=30"]
    command("flmm.cli.main", "train", TINY_CONFIG, "--only", "keywords", "--cfg-options", *settings, cwd=tmp_path)
    folder = tmp_path / "work_dirs" / f"{Path(TINY_CONFIG).stem}_keywords"
    before, after = read_head(TINY_CHECKPOINT), read_head(folder / "iter_30.pth")
    assert all(torch.equal(value, after[name]) for name, value in before.items() if not name.startswith("keywords."))
    new = {"keywords.layer_weights", "keywords.classifier.weight", "keywords.classifier.bias"}
    assert after.keys() == before.keys() | new

    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = ["scripts/multiprocess_eval_keywords.py", TINY_CONFIG, "--checkpoint", folder / "iter_30.pth"]
    options = ["--output", tmp_path / "eval"]  # the data are those that the config names
    printed = command(*launch, *script, *options, cwd=tmp_path)
    assert printed.count("evaluating with 2 process(es)") == 1
    metrics = json.loads((tmp_path / "eval/keywords.json").read_text())["splits"]["val"]
    assert metrics["selector"]["tokens"]["f1"] > 90
    assert metrics["selector"]["spans"]["f1"] > 60
    assert f"{metrics['selector']['spans']['f1']:.2f}" in printed
    assert "selector > 0.9" in metrics
