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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from rich.console import Console
from rich.table import Table


class Cost(NamedTuple):
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
class Sheet:
    """A table."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str | float]] = field(default_factory=list)

    def table(self) -> Table:
        """As it is printed, numbers with three digits or more."""
        table = Table(*self.columns, title=self.title)
        for row in self.rows:
            table.add_row(*(cell if isinstance(cell, str) else number(cell) for cell in row))
        return table


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Report(Sheet):
    """What a benchmark prints and writes: a table, or more of them, and the ratios of all."""

    ratios: list[Ratio] = field(default_factory=list)
    more: list[Sheet] = field(default_factory=list)

    def show(self, path: Path | None = None) -> None:
        """Prints the tables and the ratios; writes all of it as JSON if a file is named."""
        console = Console(width=130)
        console.print(*(sheet.table() for sheet in (self, *self.more)))
        for ratio in self.ratios:
            bound = f"{'at most' if ratio.at_most else 'at least'} {ratio.limit:g}"
            console.print(f"{'  ' if ratio.kept else '! '}{ratio.name}: {ratio.value:.3g} ({bound})", highlight=False)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            machine = {"processor": platform.processor() or platform.machine(), "cpus": psutil.cpu_count()}
            machine |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
            machine |= {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
            path.write_text(json.dumps({**asdict(self), "command": sys.argv, "machine": machine}, indent=1) + "\n")


def options(description: str | None, computes: bool = True) -> argparse.ArgumentParser:
    """The command line that the benchmarks share; some of it only by those that compute in their own process."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--json", type=lambda path: Path(path).absolute(), help="also write the figures to this file")
    if computes:
        cuda = torch.cuda.is_available()
        parser.add_argument("--device", default="cuda" if cuda else "cpu")
        parser.add_argument("--dtype", default="bfloat16" if cuda else "float32")
        parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
        parser.add_argument("--warmups", type=int, default=1, help="runs before the others that do not count")
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
    """Median costs of several ways to do the same."""
    measured = {name: partial(cost, run, args.device) for name, run in ways.items()}
    return {name: Cost(*figures) for name, figures in in_turn(measured, args.repeats, args.warmups).items()}


def in_turn(
    ways: Mapping[str, Callable[[], Sequence[float]]], repeats: int, warmups: int = 0
) -> dict[str, list[float]]:
    """Medians of the figures of several ways, which take turns so that a slow minute strikes all of them."""
    rounds = [[run() for run in ways.values()] for _ in range(warmups + repeats)][warmups:]
    runs_by_way = zip(*rounds, strict=True)
    return {
        name: [statistics.median(figure) for figure in zip(*runs, strict=True)]
        for name, runs in zip(ways, runs_by_way, strict=True)
    }
