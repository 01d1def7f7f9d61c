"""Two processes against one: time of a step, what is sent in it, and how evenly an evaluation is shared out.

    python scripts/benchmark/distributed.py [--json distributed.json]

Training is that of the embedded model on the shapes data, in float32, one thread and one sample per process: with two
cores a step of two processes would ideally take as long as one of one, and see twice the samples. Its seconds are CPU
seconds of the first process, so that other programs do not count. What is sent is counted by torch's profiler. The
evaluation is of groups of 1 to 16 sentences, few of them large, as the captions of a data set are; once shared out by
number (each process every second group), once by `flmm.evaluation.run.Queue`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Ratio, Report, options
from processes import ROOT, run_jobs
from torch.distributed import FileStore

from flmm.checkpoint import trainable
from flmm.config import TINY_CHECKPOINT, TINY_CONFIG, build_model, png_dataset, read_config
from flmm.datasets.shapes import make_shapes
from flmm.evaluation.run import Queue, evaluate_items
from flmm.training.hooks import HealthHook

WAYS = {"one process": None, "DDP": None, "ZeRO-2": 2, "ZeRO-3": 3}
fork = multiprocessing.get_context("fork")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=6, help="training steps of which the first two do not count")
    parser.add_argument("--groups", type=int, default=24, help="groups of sentences to evaluate")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(make_place(Path(folder)))
        model = build_model(read_config(TINY_CONFIG), TINY_CHECKPOINT)
        head = sum(value.numel() for value in trainable(model).values())
        report = Report(
            f"Two processes, the tiny model ({head:,} trained values), {os.cpu_count()} cores",
            ("", "CPU seconds a step", "ratio", "reduced / head", "own share gathered / head", "MB a step"),
        )
        add_training(report, args, head)
        add_evaluation(report, args, model)
    report.show(args.json)


def make_place(folder: Path) -> Path:
    """A folder to run in, with configs, weights and a small data set."""
    make_shapes(folder / "data/shapes", train=16, val=8)
    for name in ("configs", "checkpoints"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def add_training(report: Report, args: Namespace, head: int) -> None:
    here = Path.cwd()
    for stage in (2, 3):
        (here / f"zero{stage}.json").write_text(json.dumps(float32_settings(stage)))
    jobs = [job(name, stage, args.steps) for name, stage in WAYS.items()]
    for name, (statuses, log) in zip(WAYS, run_jobs(here / "jobs", jobs, cwd=here), strict=True):
        if any(statuses):
            raise SystemExit(f"{name} failed:\n{log[-3000:]}")
        add_way(report, name, head, args.steps)


def job(name: str, stage: int | None, steps: int) -> dict[str, Any]:
    settings = (f"train_cfg.max_iters={steps}", "train_dataloader.num_workers=0")
    settings += (f"load_from={TINY_CHECKPOINT}",)
    deepspeed = ("--deepspeed", f"zero{stage}.json") if stage else ()
    words = (TINY_CONFIG, "--work-dir", name, *deepspeed, "--cfg-options", *settings)
    notes = {
        "environment": {"STEP_TIMES": f"{name}.txt"},
        "prepare": "distributed:note_steps",
        "traffic": f"{name}.json",
    }
    return {"words": words, "processes": 1 if name == "one process" else 2, **notes}


def note_steps() -> None:
    """Lets the first process write down its CPU time after every step."""
    after = HealthHook.after_train_iter

    def noted(self: HealthHook, *args: Any, **kwargs: Any) -> None:
        after(self, *args, **kwargs)
        if os.environ.get("RANK", "0") == "0":
            with open(os.environ["STEP_TIMES"], "a") as file:
                file.write(f"{time.process_time()}\n")

    HealthHook.after_train_iter = noted  # type: ignore[method-assign]


def float32_settings(stage: int) -> dict[str, Any]:
    """What xtuner's names stand for, but in float32: bfloat16 is slow on most CPUs."""
    settings = dict.fromkeys(
        ("gradient_accumulation_steps", "train_micro_batch_size_per_gpu", "gradient_clipping"), "auto"
    )
    switches = {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    off = {"fp16": {"enabled": False}, "bf16": {"enabled": False}}
    return {**settings, **switches, **off, "zero_optimization": {"stage": stage}}


def add_way(report: Report, name: str, head: int, steps: int) -> None:
    clock = [float(line) for line in Path(f"{name}.txt").read_text().splitlines()]
    seconds = statistics.median(np.diff(clock)[1:])
    sent = [row for row in json.loads(Path(f"{name}.json").read_text()) if row["type"] == "float"]
    per_step = {row["collective"]: row["values"] / steps / head for row in sent}
    reduced, gathered = per_step.get("all_reduce", 0.0), per_step.get("all_gather", 0.0)
    one = report.rows[0][1] if report.rows else seconds
    report.rows.append(
        (name, seconds, seconds / float(one), reduced, gathered, (reduced + gathered) * head * 4 / 2**20)
    )
    if name != "one process":
        report.ratios.append(Ratio(f"{name}: values reduced in a step / values trained", reduced, 1.01))


def add_evaluation(report: Report, args: Namespace, model: torch.nn.Module) -> None:
    """Rows of both ways to share the same groups of sentences."""
    dataset = png_dataset(read_config(TINY_CONFIG), "data/shapes")
    sizes = np.clip(np.random.default_rng(0).pareto(1.0, args.groups) + 1, 1, 16).astype(int)
    groups = [[dataset[int(i) % len(dataset)] for i in range(size)] for size in sizes]
    by_number, by_queue = (evaluate(model, groups, shared) for shared in (False, True))
    for name, times in (("evaluation shared by number", by_number), ("evaluation by queue", by_queue)):
        report.rows.append((f"{name}: slower process / mean", "", max(times) / statistics.mean(times), "", "", ""))
    report.ratios.append(Ratio("queue: slower process / mean", max(by_queue) / statistics.mean(by_queue), 1.1))


def evaluate(model: torch.nn.Module, groups: list[Any], shared: bool) -> list[float]:
    """Seconds until each of two processes is done."""
    times = fork.Array("d", 2)
    start = fork.Barrier(2)
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"{folder}/queue"
        workers = [
            fork.Process(target=work, args=(rank, model, groups, shared, meeting, start, times)) for rank in (0, 1)
        ]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
    if any(worker.exitcode for worker in workers):
        raise SystemExit("evaluation failed")
    return list(times)


@torch.no_grad()
def work(rank: int, model: Any, groups: list[Any], shared: bool, meeting: str, start: Any, times: Any) -> None:
    mine: Iterable[int] = Queue(range(len(groups)), FileStore(meeting, 2)) if shared else range(rank, len(groups), 2)
    start.wait()
    begin = time.perf_counter()
    for index in mine:
        evaluate_items(model, groups[index])
    times[rank] = time.perf_counter() - begin


if __name__ == "__main__":
    main()
