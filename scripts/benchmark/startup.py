"""What it takes until something happens: help, import, first mask, first training step.

    python scripts/benchmark/startup.py
    git worktree add /tmp/base HEAD~1 && python scripts/benchmark/startup.py --against /tmp/base

Every command runs in the root of this repository and, with `--against`, in that of another checkout, in turn. CPU
seconds of a command and all its processes count more than the clock on a machine that does other things too. Needs
`flmm data shapes` (in the other checkout: a link to it).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from measure import Ratio, Report, in_turn, options
from processes import ROOT

from flmm.config import TINY_CONFIG

PROMISED = {"flmm --help": 1, "import flmm": 2}  # CPU seconds


def main() -> None:
    parser = options(__doc__, computes=False)
    parser.add_argument("--against", type=Path, help="root of another checkout")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="commands that hold one of these words")
    args = parser.parse_args()
    roots = {"there": args.against.resolve(), "here": ROOT} if args.against else {"here": ROOT}
    report = Report("Starting", ("command", "checkout", "CPU seconds", "clock seconds", "CPU ratio"))
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(folder).items():
            if any(word in name for word in args.only):
                measured = {place: partial(measure, command, root) for place, root in roots.items()}
                add_command(report, name, in_turn(measured, args.repeats))
    report.show(args.json)


def commands(folder: str) -> dict[str, list[str]]:
    """Command lines by name; `folder` takes what they write."""
    flmm = [sys.executable, "-m", "flmm.cli.main"]
    picture = "data/shapes/val2017/000000500001.jpg"
    settings = ["train_cfg.max_iters=1", "train_dataloader.num_workers=0", "default_hooks.checkpoint.save_last=False"]
    train = ["train", TINY_CONFIG, "--work-dir", f"{folder}/train", "--cfg-options", *settings]
    return {
        "flmm --help": [*flmm, "--help"],
        "import flmm": [sys.executable, "-c", "import flmm"],
        "flmm ground: to the first mask": [*flmm, "ground", picture, "the sky", "--out", f"{folder}/mask.png"],
        "flmm train: to the first step": [*flmm, *train],
        "xtuner train: to the first step": [str(Path(sys.executable).with_name("xtuner")), *train],
    }


def measure(command: list[str], root: Path) -> tuple[float, float]:
    """CPU and clock seconds of a command and its children."""
    # xtuner starts the first `python` on the PATH
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": "."}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed in {root}:\n{run.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


def add_command(report: Report, name: str, seconds: dict[str, list[float]]) -> None:
    """A row for each checkout, and the seconds that are promised or those of the other checkout as bounds."""
    first = next(iter(seconds.values()))[0]
    for place, (cpu, clock) in seconds.items():
        report.rows.append((name, place, cpu, clock, cpu / first))
    here = seconds["here"][0]
    if name in PROMISED:
        report.ratios.append(Ratio(f"{name}, CPU seconds", here, PROMISED[name]))
    if "there" in seconds:
        report.ratios.append(Ratio(f"{name}: here / there, CPU", here / first, 1))


if __name__ == "__main__":
    main()
