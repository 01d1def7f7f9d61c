"""Two processes: what they log, save and send, compared with one process that has twice the batch."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from toy import ToyModel

from flmm.checkpoint import latest_checkpoint, load_head, read_checkpoint, read_head
from flmm.config import TINY_CONFIG, build_model, read_config
from flmm.datasets.shapes import make_shapes
from scripts.benchmark.processes import run_jobs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXACT, TINY = (ROOT / "tests/helpers" / name for name in ("exact_config.py", "tiny_pairs_config.py"))
HEAD = 11  # values in the toy's head: 8 + 1 + 2; its frozen part has 40
STEPS = 16
TWICE = ("train_dataloader.batch_size=2",)
FAIL = ("killed", "full", "crashed")  # jobs that may


def settings(folder, stage):
    """DeepSpeed's settings as xtuner has them, but in float32."""
    path = folder / f"stage{stage}.json"
    path.write_text(
        json.dumps(
            {
                "gradient_accumulation_steps": "auto",
                "train_micro_batch_size_per_gpu": "auto",
                "gradient_clipping": "auto",
                "zero_allow_untested_optimizer": True,
                "zero_force_ds_cpu_optimizer": False,
                "zero_optimization": {"stage": stage},
                "fp16": {"enabled": False},
                "bf16": {"enabled": False},
            }
        )
    )
    return path


def job(folder, config, *words, options=(), processes=2, **more):
    """A job that trains into `folder` and notes its steps in `folder`.txt."""
    options = (f"model.note={folder}.txt", "default_hooks.checkpoint.max_keep_ckpts=-1", *options)
    words = (config, "--work-dir", folder, *words, "--cfg-options", *options)
    return {"words": [str(word) for word in words], "processes": processes, **more}


def run(folder, jobs):
    """Runs the jobs; those that may fail leave status and log."""
    for name, (status, log) in zip(jobs, run_jobs(folder / "jobs", list(jobs.values())), strict=True):
        if Path(name).name in FAIL:
            Path(f"{name}.json").write_text(json.dumps(status))
            Path(f"{name}.log").write_text(log)
        else:
            assert not any(status), f"{name}: {log[-3000:]}"


def logged(folder):
    """Losses in the log file of a run, step by step."""
    lines = next(folder.glob("*/vis_data/scalars.json")).read_text().splitlines()
    return torch.tensor([json.loads(line)["loss"] for line in lines], dtype=torch.float64)


def steps(folder):
    """What each step of a run with two processes saw, and its losses; the order of the processes is left to chance."""
    lines = Path(f"{folder}.txt").read_text().splitlines()
    return [sorted(pair) for pair in zip(lines[::2], lines[1::2], strict=True)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    zero2, zero3 = (settings(folder, stage) for stage in (2, 3))
    jobs = {
        "one": job(folder / "one", EXACT, options=TWICE, processes=1),
        "ddp": job(folder / "ddp", EXACT, traffic=str(folder / "ddp.json")),
        "zero2": job(folder / "zero2", EXACT, "--deepspeed", zero2, traffic=str(folder / "zero2.json")),
        "zero3": job(folder / "zero3", EXACT, "--deepspeed", zero3, traffic=str(folder / "zero3.json")),
        "one_bf16": job(folder / "one_bf16", EXACT, "--deepspeed", "deepspeed_zero2", options=TWICE, processes=1),
        "zero2_bf16": job(folder / "zero2_bf16", EXACT, "--deepspeed", "deepspeed_zero2"),
        "zero3_bf16": job(folder / "zero3_bf16", EXACT, "--deepspeed", "deepspeed_zero3"),
        str(folder / "crashed"): job(folder / "crashed", EXACT, options=["model.poison=007.jpg"], processes=1),
    }
    resume = ("--deepspeed", "deepspeed_zero2", "--resume", folder / "one_bf16/iter_10.pth")
    jobs["resumed_bf16"] = job(folder / "resumed_bf16", EXACT, *resume, options=TWICE, processes=1)
    for stage, deepspeed in ((2, zero2), (3, zero3)):
        jobs |= interrupted(folder / f"resume{stage}", "--deepspeed", deepspeed)
    run(folder, jobs)
    return folder


def interrupted(folder, *words):
    """Jobs: a whole run; one that is killed in step 8; one that resumes it until the disk is full; one that ends it.

    With dropout, so that the random states of both processes matter.
    """
    folder.mkdir()

    def one(name, work_dir, *more, options=(), **how):
        options = ("model.dropout=0.3", f"model.note={folder / name}.txt", *options)
        return {str(folder / name): job(folder / work_dir, EXACT, *words, *more, options=options, **how)}

    return {
        **one("whole", "whole"),
        **one("killed", "run", options=["model.pause=0.1"], kill=[f"{folder / 'killed'}.txt", 15]),
        **one("full", "run", "--resume", prepare="toy:fill_the_disk"),
        **one("resumed", "run", "--resume"),
    }


@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3"])
def test_two_processes_log_and_learn_what_one_does_with_twice_the_batch(name, runs):
    losses, expected = logged(runs / name), logged(runs / "one")
    assert len(expected) == STEPS
    assert expected[-1] < 0.9 * expected.max()  # it learns: equal losses do not come from an untouched head
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)
    head, wanted = (read_head(runs / run / "iter_16.pth") for run in (name, "one"))
    if name != "ddp":  # to DeepSpeed no gradient is one of zeros: weight decay goes on, here 0.08 % in all
        torch.testing.assert_close(head.pop("unused"), wanted.pop("unused"), rtol=1e-3, atol=0)
    torch.testing.assert_close(head, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["zero2_bf16", "zero3_bf16"])
def test_the_settings_of_xtuner_agree_in_bfloat16(name, runs):
    torch.testing.assert_close(logged(runs / name), logged(runs / "one_bf16"), rtol=1e-2, atol=0)
    torch.testing.assert_close(logged(runs / name), logged(runs / "one"), rtol=2e-2, atol=0)
    heads = [read_head(runs / run / "iter_16.pth") for run in (name, "one")]
    torch.testing.assert_close(*heads, rtol=0, atol=2e-3)  # in float32 both; they move by more than 0.05


def test_a_run_of_deepspeed_in_bfloat16_resumes_exactly(runs):
    lines, rest = (Path(runs / f"{name}.txt").read_text().splitlines() for name in ("one_bf16", "resumed_bf16"))
    assert rest == lines[10:]
    whole, resumed = (read_head(runs / name / "iter_16.pth") for name in ("one_bf16", "resumed_bf16"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_crash_is_seen_in_the_exit_status(runs):
    assert json.loads((runs / "crashed.json").read_text()) == [1]
    assert "sample: 007.jpg" in (runs / "crashed.log").read_text()


@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3"])
def test_no_frozen_weight_is_sent(name, runs):
    """In each step the head's gradients are reduced, and with ZeRO its new weights gathered; nothing else is large."""
    sent = {(row["collective"], row["type"]): row["values"] for row in json.loads((runs / f"{name}.json").read_text())}
    assert HEAD - 2 <= sent["all_reduce", "float"] / STEPS <= HEAD + 3
    assert sent["broadcast", "float"] <= 3 * HEAD  # once, at the start; with the frozen part there were 40 more
    assert sent.get(("all_gather", "float"), 0) / STEPS <= 3 * HEAD
    assert ("all_gather", "float") in sent or name == "ddp"


@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3", "zero3_bf16"])
def test_the_head_alone_is_saved_and_every_kind_is_a_checkpoint(name, runs):
    path = runs / name / "iter_16.pth"
    model = ToyModel()
    assert load_head(model, path).matched == ["head.bias", "head.weight", "unused"]
    assert torch.equal(model.head.weight, read_head(path)["head.weight"])
    for states in path.glob("*model_states.pt"):
        assert not any(key.startswith("frozen") for key in read_checkpoint(states)["module"])


def test_a_partition_that_is_missing_is_noticed(runs, tmp_path):
    shutil.copytree(runs / "zero3/iter_16.pth", tmp_path / "iter_16.pth")
    next((tmp_path / "iter_16.pth").glob("*rank_1_*optim_states.pt")).unlink()
    with pytest.raises(ValueError, match="the parts of 1 of 2 processes"):
        read_head(tmp_path / "iter_16.pth")


@pytest.mark.parametrize("stage", [2, 3])
def test_killed_then_a_full_disk_then_resumed_equals_an_uninterrupted_run(stage, runs):
    folder = runs / f"resume{stage}"
    assert json.loads((folder / "killed.json").read_text()) == [-9, -9]
    assert 1 in json.loads((folder / "full.json").read_text())
    log = (folder / "full.log").read_text()
    assert "iter_10.pth: " in log
    assert "Earlier checkpoints are untouched" in log
    assert steps(folder / "full")[:5] == steps(folder / "whole")[5:10]
    assert steps(folder / "resumed") == steps(folder / "whole")[5:]
    whole, resumed = (read_head(folder / name / "iter_16.pth") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert latest_checkpoint(folder / "run") == str(folder / "run/iter_16.pth")


def test_deepspeed_saves_between_two_accumulation_windows(tmp_path):
    """At steps 5, 10, 15, ... a window of 4 is open: its gradients would be in no file."""
    deepspeed = ("--deepspeed", settings(tmp_path, 2))
    alike = {"options": ["optim_wrapper.accumulative_counts=4", "model.dropout=0.3"], "processes": 1}
    resume = (*deepspeed, "--resume", tmp_path / "whole/iter_8.pth")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(tmp_path, {whole: job(whole, EXACT, *deepspeed, **alike), resumed: job(resumed, EXACT, *resume, **alike)})
    saved = {int(path.stem.removeprefix("iter_")) for path in whole.glob("iter_*")}
    assert saved == {8, 12, 16, 20, 28, 32}
    heads = [read_head(folder / "iter_32.pth") for folder in (whole, resumed)]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_the_embedded_model_agrees_too(tmp_path):
    """LMM, U-Net and SAM, from the same head; captions with equally many masks, since a batch averages over those."""
    make_shapes(tmp_path / "data/shapes", train=40, val=3)
    for name in ("configs", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    ways = {f"zero{stage}": ["--deepspeed", str(settings(tmp_path, stage))] for stage in (2, 3)} | {"ddp": []}
    jobs = {name: {"words": [str(TINY), "--work-dir", name, *more], "processes": 2} for name, more in ways.items()}
    jobs["one"] = {"words": [str(TINY), "--work-dir", "one", "--cfg-options", *TWICE]}
    for name, (status, log) in zip(jobs, run_jobs(tmp_path / "jobs", list(jobs.values()), cwd=tmp_path), strict=True):
        assert not any(status), f"{name}: {log[-3000:]}"
    expected = logged(tmp_path / "one")
    assert len(expected) == 3
    for name in ways:
        torch.testing.assert_close(logged(tmp_path / name), expected, rtol=1e-4, atol=0)
    heads = {name: read_head(tmp_path / name / "iter_3.pth") for name in jobs}
    assert not any(key.startswith(("backbone", "sam.model.image_encoder")) for head in heads.values() for key in head)
    model = build_model(read_config(TINY_CONFIG), tmp_path / "zero2/iter_3.pth")
    assert torch.equal(model.text_proj.weight, heads["zero2"]["text_proj.weight"])
