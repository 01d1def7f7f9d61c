"""What it takes until something happens: help, import, first mask, first training step.

    python scripts/benchmark/startup.py
    git worktree add /tmp/base HEAD~1 && python scripts/benchmark/startup.py --against /tmp/base

Every command runs in the root of this repository and, with `--against`, in that of another checkout, in turn. CPU
seconds of a command and all its processes count more than the clock on a machine that does other things too. Needs
`flmm data shapes` (in the other checkout: a link to it).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from measure import Ratio
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
TINY = "configs/tiny/frozen_tiny_llava_unet_sam_nano_shapes.py"
PICTURE = "data/shapes/val2017/000000500001.jpg"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="root of another checkout")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands whose name holds one of these words")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def commands(folder: str) -> dict[str, list[str]]:
    """Command lines by name; `folder` takes what they write."""
    flmm = [sys.executable, "-m", "flmm.cli"]
    settings = ["train_cfg.max_iters=1", "train_dataloader.num_workers=0", "default_hooks.checkpoint.save_last=False"]
    train = ["train", TINY, "--work-dir", f"{folder}/train", "--cfg-options", *settings]
    return {
        "flmm --help": [*flmm, "--help"],
        "import flmm": [sys.executable, "-c", "import flmm"],
        "flmm ground: to the first mask": [*flmm, "ground", PICTURE, "the sky", "--out", f"{folder}/mask.png"],
        "flmm train: to the first step": [*flmm, *train],
        "xtuner train: to the first step": [str(Path(sys.executable).with_name("xtuner")), *train],
    }


def measure(command: list[str], root: Path) -> dict[str, float]:
    """CPU and clock seconds of a command and its children."""
    # xtuner starts the first `python` on the PATH
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": "."}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed in {root}:\n{run.stderr[-2000:]}")
    return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "clock": clock}


def measure_all(roots: dict[str, Path], only: list[str], repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by command and checkout."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(folder).items():
            if only and not any(word in name for word in only):
                continue
            runs = [{key: measure(command, root) for key, root in roots.items()} for _ in range(repeats)]
            figures[name] = {
                key: {unit: statistics.median(run[key][unit] for run in runs) for unit in ("cpu", "clock")}
                for key in roots
            }
    return figures


def show(figures: dict[str, dict[str, dict[str, float]]]) -> Table:
    table = Table("", title="start-up")
    keys = list(next(iter(figures.values())))
    for column in [f"{key}, {unit} s" for key in keys for unit in ("CPU", "clock")]:
        table.add_column(column, justify="right")
    if len(keys) > 1:
        table.add_column("CPU ratio", justify="right")
    for name, figure in figures.items():
        cells = [f"{figure[key][unit]:.2f}" for key in keys for unit in ("cpu", "clock")]
        if len(keys) > 1:
            figure["ratio"] = {"cpu": figure[keys[0]]["cpu"] / figure[keys[1]]["cpu"]}
            cells.append(f"{figure['ratio']['cpu']:.2f}")
        table.add_row(name, *cells)
    return table


def ratios(figures: dict[str, dict[str, dict[str, float]]]) -> Iterator[Ratio]:
    """Seconds that are promised, and, with another checkout, what starting costs beside it."""
    for name, seconds in (("flmm --help", 1), ("import flmm", 2)):
        if name in figures:
            yield Ratio(f"{name}, CPU seconds", figures[name]["here"]["cpu"], seconds)
    for name, figure in figures.items():
        if "ratio" in figure:
            yield Ratio(f"{name}: here / there, CPU", figure["ratio"]["cpu"], 1)


def main() -> None:
    args = parse_args()
    roots = {"here": ROOT, **({"there": args.against.resolve()} if args.against else {})}
    figures = measure_all(roots, args.only or [], args.repeats)
    Console(width=120).print(show(figures))
    if args.json:
        content = {"arguments": vars(args), "figures": figures, "ratios": [asdict(ratio) for ratio in ratios(figures)]}
        args.json.write_text(json.dumps(content, indent=2, default=str))


if __name__ == "__main__":
    main()
