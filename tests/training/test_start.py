"""What is settled before a run starts."""

import os
import re
from argparse import Namespace
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import LinearLR
from torch.optim import AdamW
from xtuner.engine.runner import TrainLoop

from flmm.config import TINY_CONFIG, config_file
from flmm.training.check_config import check_config, check_options
from flmm.training.hooks import SafeCheckpointHook
from flmm.training.start import check_start, fit_workers, read_config


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


NESTED = {
    "train_cfg.max_iter": (5, "IterBasedTrainLoop .*did you mean `max_iters`"),
    "train_cfg.max_iters": ("abc", "is 'abc', but IterBasedTrainLoop takes int"),
    "optim_wrapper.acumulative_counts": (2, "did you mean `accumulative_counts`"),
    "optim_wrapper.clip_grad.max_nrm": (1, "did you mean `max_norm`"),
    "optim_wrapper.optimizer.lr": ("fast", "AdamW takes float or Tensor"),
    "optim_wrapper.optimizer.weight_decy": (0, "did you mean `weight_decay`"),
    "param_scheduler.0.end": ("abc", "takes int"),
    "default_hooks.checkpoint.max_keep_ckpt": (1, "did you mean `max_keep_ckpts`"),
    "default_hooks.checkpoint.interval": ("often", "CheckpointHook takes int"),
    "log_processor.window_sizes": (3, "did you mean `window_size`"),
    "randomness.sed": (3, "did you mean `seed`"),
    "env_cfg.mp_cfg.start_method": ("fork", "did you mean `mp_start_method`"),
}


@pytest.mark.parametrize("named", ["in words", "by class"])
@pytest.mark.parametrize("key", NESTED)
def test_keys_below_the_top_and_their_kinds_are_checked(key, named):
    """`train_cfg.max_iter=5` would train to the end, `max_iters=abc` fail after the LMM was loaded."""
    words = named == "in words"
    config = {
        "train_cfg": {"by_epoch": False, "max_iters": 9},
        "optim_wrapper": {"optimizer": {"type": "AdamW" if words else AdamW}, "clip_grad": {"max_norm": 1}},
        "param_scheduler": [{"type": "LinearLR" if words else LinearLR, "end": 9}],
        "default_hooks": {"checkpoint": {"type": "CheckpointHook" if words else SafeCheckpointHook, "interval": 5}},
        "log_processor": {"by_epoch": False},
        "randomness": {"seed": 1},
        "env_cfg": {"mp_cfg": {"mp_start_method": "fork"}, "dist_cfg": {"backend": "nccl"}, "cudnn_benchmark": True},
    }
    check_config(Config(config))
    value, says = NESTED[key]
    changed = Config(config)
    changed.merge_from_dict({key: value})
    place = key.replace(".0.", "[0].")
    with pytest.raises(ValueError, match=rf"`{re.escape(place)}`?.*{says}"):
        check_config(changed)


def test_a_loop_of_xtuner_hands_its_keywords_on():
    check_config(Config({"train_cfg": {"type": TrainLoop, "max_iters": 5, "val_interval": 3}}))
    with pytest.raises(ValueError, match=r"`train_cfg\.max_iter`: TrainLoop .*did you mean `max_iters`"):
        check_config(Config({"train_cfg": {"type": TrainLoop, "max_iters": 5, "max_iter": 3}}))


def test_an_option_one_slip_from_a_key_beside_it_is_refused():
    config = Config({**CFG, "model": {"sam": {"model_name": "vit_l"}, "heads": [{"width": 1}]}})
    check_options(["model.sam.multimask_output=False", "model.heads.0.depth=2", "model.heads.5.widths=2"], config)
    for word, meant in (
        ("model.sam.model_nam=x", r"model\.sam\.model_name"),
        ("model.heads.0.widt=2", r"model\.heads\.0\.width"),
    ):
        with pytest.raises(ValueError, match=f"no such key; did you mean `{meant}`"):
            check_options([word], config)


@pytest.mark.parametrize("key", ["max_iters", "max_epochs"])
def test_a_training_has_a_length(key):
    with pytest.raises(ValueError, match=rf"`train_cfg.{key}` is -3"):
        check_config(Config({**CFG, "train_cfg": {"by_epoch": key == "max_epochs", key: -3}}))


def test_a_text_is_neither_config_nor_checkpoint(tmp_path):
    text = tmp_path / "notes.md"
    text.write_text("what I saw")
    with pytest.raises(ValueError, match=r"is no config: its name has to end in .py"):
        config_file(text)
    args = Namespace(config=config_file(TINY_CONFIG), deepspeed=None, cfg_options=[], resume=str(text))
    with pytest.raises(ValueError, match=r"notes.md is no checkpoint: it begins with"):
        read_config(args)
