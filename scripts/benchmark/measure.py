"""What the benchmarks share: time and peak memory of ways to do the same, one table, one JSON file."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds (on CPUs those of this process, so that other programs do not count) and peak MB."""

    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Ratio:
    """A figure of merit, and the bound that it is to keep."""

    name: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def kept(self) -> bool:
        """Whether the bound is kept."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass
class Report:
    """What a benchmark prints and writes."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str | float]] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)

    def show(self, path: Path | None = None) -> None:
        """Prints the table and the ratios; writes all of it as JSON if a file is named."""
        table = Table(*self.columns, title=self.title)
        for row in self.rows:
            table.add_row(*(cell if isinstance(cell, str) else f"{cell:,.3g}" for cell in row))
        console = Console(width=130)
        console.print(table)
        for ratio in self.ratios:
            bound = f"{'at most' if ratio.at_most else 'at least'} {ratio.limit:g}"
            console.print(f"{'  ' if ratio.kept else '! '}{ratio.name}: {ratio.value:.3g} ({bound})", highlight=False)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            machine = {"processor": platform.processor() or platform.machine(), "cpus": psutil.cpu_count()}
            machine |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
            machine |= {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
            path.write_text(json.dumps({**asdict(self), "command": sys.argv, "machine": machine}, indent=1) + "\n")


def options(description: str | None) -> argparse.ArgumentParser:
    """The command line that the benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--dtype", default="bfloat16" if cuda else "float32")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--warmups", type=int, default=1, help="runs before them that do not count")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser


class PeakMemory:
    """Peak memory in MB above the level at entry: CUDA's own count, or this process's resident set."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")
        self.megabytes = 0.0

    def __enter__(self) -> PeakMemory:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
            return self
        # give freed pages back first, else memory that an earlier way left behind hides what this one takes
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        self.process = psutil.Process()
        self.start = self.peak = self.process.memory_info().rss
        self.running = True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            peak = torch.cuda.max_memory_allocated()
        else:
            self.running = False
            self.thread.join()
            peak = max(self.peak, self.process.memory_info().rss)
        self.megabytes = (peak - self.start) / 2**20


def cost(run: Callable[[], object], device: str) -> Cost:
    """Runs once."""
    gc.collect()
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    with PeakMemory(device) as peak:
        start = clock()
        result = run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds = clock() - start
    del result
    return Cost(seconds, peak.megabytes)


def compare(ways: dict[str, Callable[[], object]], args: argparse.Namespace) -> dict[str, Cost]:
    """Medians of several ways to do the same, which take turns so that a slow minute strikes all of them."""
    runs = args.warmups + args.repeats
    rounds = [{name: cost(run, args.device) for name, run in ways.items()} for _ in range(runs)][args.warmups :]
    return {
        name: Cost(
            statistics.median(each[name].seconds for each in rounds),
            statistics.median(each[name].megabytes for each in rounds),
        )
        for name in ways
    }
