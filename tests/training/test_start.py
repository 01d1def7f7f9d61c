"""What is settled before a run starts."""

import os
from pathlib import Path

import pytest
from mmengine.config import Config

from flmm.training.check_config import check_config, check_options
from flmm.training.start import check_start, fit_workers


def test_there_are_no_more_workers_than_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    for asked, started in ((4, 2), (2, 2), (1, 1), (0, 0)):
        config = Config({"train_dataloader": {"num_workers": asked}})
        fit_workers(config)
        assert config.train_dataloader.num_workers == started
    fit_workers(Config({"model": {}}))


CFG = {"train_cfg": {"by_epoch": False, "max_iters": 9}, "load_from": None, "resume": False, "model": {}, "lr": 1}
SLIPS = {
    "of a word, beside the right one": ({"trian_cfg": {"max_iters": 1}}, "train_cfg"),
    "of a word alone": ({"default_hook": {"logger": {}}}, "default_hooks"),
    "of a plain value": ({"load_form": "head.pth"}, "load_from"),
    "of a truth": ({"resum": True}, "resume"),
}


@pytest.mark.parametrize("kind", SLIPS)
def test_a_slip_in_a_key_is_not_passed_over(kind):
    """`--cfg-options load_form=HEAD` would train from nothing, `trian_cfg.max_iters=1` to the end."""
    slip, meant = SLIPS[kind]
    with pytest.raises(ValueError, match=f"unknown config key `{next(iter(slip))}`: did you mean `{meant}`"):
        check_config(Config({**CFG, **slip}))


def test_variables_of_an_author_are_let_be():
    check_config(Config({**CFG, "models": {"a": 1}, "train_cfg_long": {"steps": 3}, "lrs": [1, 2], "model": {"b": 2}}))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("lr", "--cfg-options lr: write KEY=VALUE"),
        ("trian_cfg.max_iters=1", "has no `trian_cfg`, .* mean `train_cfg`"),
        ("nothing.like.this=1", "has no `nothing`, .*its keys are in the config file"),
    ],
)
def test_options_that_nobody_reads_are_refused(word, says):
    check_options(["lr=2", "train_cfg.max_iters=3", "randomness.seed=1", "runner_type=CustomRunner"], Config(CFG))
    with pytest.raises(ValueError, match=says):
        check_options(["lr=2", word], Config(CFG))


@pytest.mark.parametrize("work_dir", ["a_file", "/proc/nowhere"])
def test_a_work_dir_that_cannot_be_made_is_said_before_a_model_is_loaded(tmp_path, monkeypatch, work_dir):
    monkeypatch.chdir(tmp_path)
    Path("a_file").touch()
    with pytest.raises(
        ValueError, match=f"cannot write {work_dir}/last_checkpoint: no folder {work_dir} .*choose another"
    ):
        check_start(Config({**CFG, "work_dir": work_dir}))


def test_a_class_that_a_config_imports_is_no_misspelled_key():
    """`from mmengine.visualization import Visualizer` beside `visualizer = None`."""
    check_config(Config({"Visualizer": Path, "visualizer": None}))
    with pytest.raises(ValueError, match="unknown config key `visualiser`: did you mean `visualizer`"):
        check_config(Config({"visualiser": {"type": "V"}, "visualizer": None}))
