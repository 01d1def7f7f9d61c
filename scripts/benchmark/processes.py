"""Runs `flmm train` in processes forked from one that has imported everything: imports take the longest.

    python scripts/benchmark/processes.py JOBS.json

Each entry of JOBS.json holds the arguments of `run_job`; JOBS.json.done gets the exit statuses.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 400  # seconds after which a job is killed: processes that wait for each other do so for ever


def run_jobs(folder: Path, jobs: Sequence[Mapping[str, Any]], cwd: Path = ROOT) -> list[tuple[list[int], str]]:
    """Runs jobs one after the other; returns for each its processes' exit statuses and what they printed."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "jobs.json"
    file.write_text(json.dumps([{**job, "log": str(folder / f"{number}.log")} for number, job in enumerate(jobs)]))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/helpers'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), str(file)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    statuses = json.loads(Path(f"{file}.done").read_text())
    return [(status, (folder / f"{number}.log").read_text()) for number, status in enumerate(statuses)]


def main(file: str) -> None:
    for module in ("deepspeed", "xtuner.tools.train", "flmm.runner", "mmdet.models", "mmseg.models"):
        importlib.import_module(module)
    statuses = [run_job(**job) for job in json.loads(Path(file).read_text())]
    Path(f"{file}.done").write_text(json.dumps(statuses))


def run_job(
    words: Sequence[str],
    log: str,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
    kill: tuple[str, int] | None = None,
    prepare: str | None = None,
    traffic: str | None = None,
) -> list[int]:
    """Trains with the command line `words`.

    Args:
        words: What follows `flmm train`.
        log: File of everything that is printed.
        processes: How many; they find each other as torchrun's do.
        environment: Further variables.
        kill: A file and a number: SIGKILL to all as soon as the file has that many lines.
        prepare: `module:function` to call in each process before.
        traffic: File for what the first process sends in collectives, see `count_traffic`.

    Returns:
        Exit statuses. When one process has failed the others are killed, as torchrun does.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    children = []
    for rank in range(processes):
        if (child := os.fork()) == 0:
            place = {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            os.environ.update({**place, **(environment or {})})
            os._exit(train(words, log, processes, prepare, traffic if rank == 0 else None))
        children.append(child)
    statuses = wait(children, kill, time.monotonic() + LIMIT)
    return [statuses[child] for child in children]


def wait(children: Sequence[int], kill: tuple[str, int] | None, deadline: float) -> dict[int, int]:
    statuses: dict[int, int] = {}
    while len(statuses) < len(children):
        lines = Path(kill[0]).read_text().count("\n") if kill and Path(kill[0]).exists() else 0
        if any(statuses.values()) or (kill and lines >= kill[1]) or time.monotonic() > deadline:
            for child in set(children) - statuses.keys():
                os.kill(child, signal.SIGKILL)
        for child in set(children) - statuses.keys():
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return statuses


def train(words: Sequence[str], log: str, processes: int, prepare: str | None, traffic: str | None) -> int:
    """What a child does; it must not return to its parent's code, whatever happens."""
    from flmm.cli.train import child

    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    try:
        if prepare:
            module, function = prepare.split(":")
            getattr(importlib.import_module(module), function)()
        words = [*words, "--launcher", "pytorch"] if processes > 1 else words
        return count_traffic(lambda: child(words), traffic) if traffic else child(words)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def count_traffic(work: Any, file: str) -> int:
    """Runs `work`, writes how many values of which type went into each collective.

    The profiler sees the calls of C++ (DistributedDataParallel) and Python (DeepSpeed) alike. gloo reports a
    reduce_scatter as the all_reduce that it is there.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
        status = work()
    sent: Counter[tuple[str, str]] = Counter()
    for event in recorded.profiler.kineto_results.events():
        backend, _, collective = event.name().partition(":")
        if backend in ("gloo", "nccl") and event.shapes():
            sent[collective, event.dtypes()[0]] += math.prod(event.shapes()[0])
    rows = [{"collective": name, "type": kind, "values": values} for (name, kind), values in sorted(sent.items())]
    Path(file).write_text(json.dumps(rows))
    return status


if __name__ == "__main__":
    main(sys.argv[1])
