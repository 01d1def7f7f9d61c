"""``flmm train CONFIG --dry-run``: what a run needs, checked in each of its processes; nothing is trained.

Started exactly as the run will be (torchrun's or srun's variables), it finds in a minute what would otherwise show
after the LMM was loaded on every node, or at the first checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from flmm.console import Finding, show
from flmm.training.named_files import files
from flmm.training.start import read_config, work_dir

PATIENCE = timedelta(minutes=3)
NETWORK_CURE = (
    "all nodes must reach ADDR:PORT of node 0 (firewall?); name their common interface with "
    "GLOO_SOCKET_IFNAME / NCCL_SOCKET_IFNAME, see more with NCCL_DEBUG=INFO"
)


def check(args: argparse.Namespace) -> int:
    """Checks this process and its way to the others; the first one prints what all have found.

    Args:
        args: Of ``flmm train``.

    Returns:
        The exit status: 1 when something is broken in any process.
    """
    together = int(os.environ.get("WORLD_SIZE", 1)) > 1
    findings = local_findings(args)  # first: they import what takes long, and then nobody waits for anybody
    reached = network() if together else Finding("ok", "processes", "1")
    findings = [reached, *findings]
    if not together or reached.state == "broken":
        show(findings, f"dry run on {platform.node()}")
        return _status(findings)
    import torch.distributed as dist

    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, (platform.node(), findings))
    dist.destroy_process_group()
    merged = merge(gathered)
    if os.environ["RANK"] == "0":
        show(merged, f"dry run of {len(gathered)} processes on {len({host for host, _ in gathered})} node(s)")
    return _status(merged)


def _status(findings: list[Finding]) -> int:
    return int(any(finding.state == "broken" for finding in findings))


def merge(gathered: list[tuple[str, list[Finding]]]) -> list[Finding]:
    """One list of the findings of all processes; those that not all share say whose they are."""
    owners: dict[Finding, list[str]] = defaultdict(list)
    for rank, (host, findings) in enumerate(gathered):
        for finding in dict.fromkeys(findings):
            owners[finding].append(f"process {rank} on {host}")
    merged = []
    for finding, who in owners.items():
        text = finding.text if len(who) == len(gathered) else f"{finding.text} ({', '.join(who)})"
        merged.append(replace(finding, text=text))
    return [*merged, *_disagreements(merged, len(gathered))]


def _disagreements(merged: list[Finding], processes: int) -> Iterator[Finding]:
    """Configs and versions must be the same everywhere."""
    for what in ("config", "versions"):
        if processes > 1 and len({f.text.split(" (process")[0] for f in merged if f.what == what}) > 1:
            yield Finding("broken", what, "differ between processes", "install and copy the same on all nodes")


def local_findings(args: argparse.Namespace) -> list[Finding]:
    """What concerns this process alone."""
    try:
        config = read_config(args)
    except Exception as error:  # a config is a program: anything may go wrong in it
        return [Finding("broken", "config", f"{args.config}: {type(error).__name__}: {error}"), *machine()]
    digest = hashlib.sha256(config.pretty_text.encode()).hexdigest()[:8]
    known = Finding("ok", "config", f"{args.config}, every key known; {digest}")
    return [known, *machine(), *files(config), *loader(config), *disk(config, args)]


def machine() -> Iterator[Finding]:
    """Versions, and the device of this process."""
    import deepspeed
    import torch
    import transformers

    modules = (torch, transformers, deepspeed)
    versions = [f"Python {platform.python_version()}", *(f"{m.__name__} {m.__version__}" for m in modules)]
    yield Finding("ok", "versions", ", ".join(versions))
    local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if not count:
        yield Finding("note", "device", f"no GPU here: CPU, {os.cpu_count()} cores")
    elif local >= count:
        cure = "NPROC_PER_NODE at most the GPUs of a node; with srun --gpus-per-node, not --gpus-per-task"
        yield Finding("broken", "device", f"local process {local}, but {count} GPU(s) to be seen", cure)
    else:
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(local))
        yield Finding("ok", "device", f"{torch.cuda.get_device_name(local)}, {free:.0f} of {total:.0f} GB free")


def network() -> Finding:
    """Joins the other processes and adds 4 MB up with them."""
    import torch
    import torch.distributed as dist

    backend = "nccl" if torch.cuda.is_available() else "gloo"
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        if backend == "nccl":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        dist.init_process_group(backend, timeout=PATIENCE)
        ones = torch.ones(2**20, device="cuda" if backend == "nccl" else "cpu")
        dist.all_reduce(ones)  # the first one opens the connections
        start = time.perf_counter()
        dist.all_reduce(ones)
        seconds = time.perf_counter() - start
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding("broken", "network", f"{backend}, process {os.environ['RANK']}, {where}: {reason}", NETWORK_CURE)
    world = dist.get_world_size()
    if ones[0].item() != world**2:
        return Finding("broken", "network", f"{backend}: the sum of {world} ones twice is {ones[0]}", NETWORK_CURE)
    speed = "fast" if seconds < 0.1 else f"slow: {seconds:.1f} s for 4 MB"
    return Finding("ok", "network", f"{backend}, {world} processes meet at {where}, {speed}")


def loader(config: Any) -> Iterator[Finding]:
    """Whether the data workers of all processes of this node find cores and shared memory."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or 1)
    workers = processes * config.get("train_dataloader", {}).get("num_workers", 0)
    if workers > (cores := len(os.sched_getaffinity(0))):
        cure = "fewer workers: --cfg-options train_dataloader.num_workers=N; with srun more --cpus-per-task"
        yield Finding("note", "data workers", f"{workers} on {cores} cores of this node", cure)
    shared = Path("/dev/shm")
    if workers and shared.is_dir() and (free := shutil.disk_usage(shared).free) < 2**28 * processes:
        cure = "docker run --shm-size=8g (or --ipc=host): data workers hand samples over in shared memory"
        yield Finding("broken", "/dev/shm", f"{free / 2**20:.0f} MB free for {workers} data workers", cure)


def disk(config: Any, args: argparse.Namespace) -> Iterator[Finding]:
    """Whether checkpoints can be written into the work dir, and fit there."""
    where = work_dir(config, args).absolute()
    parent = next(folder for folder in (where, *where.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            file.write(b"x")
    except OSError as error:
        yield Finding("broken", "work dir", f"{where}: {error}", "choose another one with --work-dir")
        return
    keep = config.get("default_hooks", {}).get("checkpoint", {}).get("max_keep_ckpts", -1)
    size, free = checkpoint_bytes(config) / 2**20, shutil.disk_usage(parent).free / 2**20
    kept = f"{keep if keep > 0 else 'all'} are kept"
    text = f"{where}: {free:,.0f} MB free, a checkpoint takes at most {size:,.0f} MB, {kept}"
    enough = free > (max(keep, 1) + 1) * size  # the new one is written before the outdated one goes
    cure = "" if enough else "make room, or choose another disk with --work-dir"
    yield Finding("ok" if enough else "broken", "work dir", text, cure)


def checkpoint_bytes(config: Any) -> int:
    """Bound of a checkpoint's size: the head and Adam's two moments in float32, DeepSpeed's bf16 weights.

    The U-Net is that of 2048 attention maps: how many there are is known when the LMM is loaded.
    """
    import torch
    from xtuner.registry import BUILDER

    from segment_anything import sam_model_registry

    model = config.model
    with torch.device("meta"):
        parts = [BUILDER.build(model.mask_head)] if "mask_head" in model else []
        if model.get("sam"):
            sam = sam_model_registry[model.sam.model_name]()
            parts += [sam.prompt_encoder, sam.mask_decoder]
    return 14 * sum(value.numel() for part in parts for value in part.parameters())
