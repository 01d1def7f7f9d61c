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
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from rich.console import Console
from rich.table import Table

M_MMAP_THRESHOLD = -3  # of malloc.h: larger blocks are not from the heap


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
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median time counts")
    parser.add_argument("--json", type=lambda path: Path(path).absolute(), help="also write the figures to this file")
    if computes:
        cuda = torch.cuda.is_available()
        parser.add_argument("--device", default="cuda" if cuda else "cpu")
        parser.add_argument("--dtype", default="bfloat16" if cuda else "float32")
        parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
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
        # freed memory goes back at once, else it hides what is taken later, or counts although nobody has it
        self.libc = ctypes.CDLL("libc.so.6")
        self.libc.malloc_trim(0)
        self.libc.mallopt(M_MMAP_THRESHOLD, 2**16)
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
            self.libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # to where it gets by itself in any process that uses torch
        self.megabytes = (peak - self.start) / 2**20


def duration(run: Callable[[], object], device: str) -> float:
    """Seconds of one run."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    start = clock()
    result = run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    taken = clock() - start
    del result
    return taken


def megabytes(run: Callable[[], object], device: str) -> float:
    """Peak memory of one run, in MB."""
    gc.collect()
    with PeakMemory(device) as peak:
        run()
    return peak.megabytes


def compare(ways: dict[str, Callable[[], object]], args: argparse.Namespace) -> dict[str, Cost]:
    """Costs of several ways to do the same: memory of a first run, which takes time to watch, median time of others."""
    memory = {name: megabytes(run, args.device) for name, run in ways.items()}
    timed = in_turn({name: lambda run=run: [duration(run, args.device)] for name, run in ways.items()}, args.repeats)
    return {name: Cost(*timed[name], memory[name]) for name in ways}


def in_turn(ways: Mapping[str, Callable[[], Sequence[float]]], repeats: int) -> dict[str, list[float]]:
    """Medians of the figures of several ways, which take turns so that a slow minute strikes all of them."""
    rounds = [[run() for run in ways.values()] for _ in range(repeats)]
    runs_by_way = zip(*rounds, strict=True)
    return {
        name: [statistics.median(figure) for figure in zip(*runs, strict=True)]
        for name, runs in zip(ways, runs_by_way, strict=True)
    }
