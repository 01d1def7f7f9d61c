"""``flmm train CONFIG --dry-run``: what a run needs, checked in each of its processes; nothing is trained.

Started exactly as the run will be (torchrun's or srun's variables), it finds in a minute what would otherwise show
after the LMM was loaded on every node, or at the first checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from flmm.cli.doctor import Finding, show
from flmm.hub import PREFIX
from flmm.paths import FILES, FOLDERS, WEIGHTS, locate_all

PATIENCE = timedelta(minutes=3)
BITS_CURE = "`python -m pip install bitsandbytes` (uv leaves it out inside the repository: see docs/training.md)"
SAM_CURE = "`flmm download sam_vit_l` (or sam_vit_b, sam_vit_h) fetches SAM's weights (checkpoints/README.md)"
DATA_CURE = "paths are relative to the folder you start in; `flmm data check` tells where missing data come from"
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
        merged.append(Finding(finding.state, finding.what, text, finding.cure))
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


def read_config(args: argparse.Namespace) -> Any:
    """The config with ``--cfg-options``, its keys checked, and the checkpoint of ``--resume`` in `load_from`.

    Raises:
        ValueError: An unknown key.
        FileNotFoundError: No such DeepSpeed settings.
    """
    from mmengine.config import Config, DictAction
    from xtuner.configs import cfgs_name_path

    from flmm.training.check_config import check_config

    if args.deepspeed and not os.path.isfile(args.deepspeed) and args.deepspeed not in cfgs_name_path:
        raise FileNotFoundError(
            f"--deepspeed {args.deepspeed}: no file, and none of xtuner's names (deepspeed_zero2, ...)"
        )
    options = argparse.ArgumentParser()
    options.add_argument("--options", nargs="*", action=DictAction)
    config = Config.fromfile(args.config)
    config.merge_from_dict(options.parse_args(["--options", *args.cfg_options]).options or {})
    locate_all(config._cfg_dict)
    if args.resume not in (None, "latest"):
        config.load_from = args.resume
    check_config(config)
    return config


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


def files(config: Any) -> Iterator[Finding]:
    """Data, weights and checkpoints that the config names."""
    config = getattr(config, "_cfg_dict", config)  # a Config is no mapping
    for key, path in dict.fromkeys(named_paths(config)):
        there = path.is_dir() if key in FOLDERS else path.exists()
        yield Finding("ok" if there else "broken", key, str(path), "" if there else f"{path} is missing: {_cure(path)}")
    for named in sorted(set(named_weights(config))):
        yield weights(*named)
    if _quantized(config) and importlib.util.find_spec("bitsandbytes") is None:
        text = "bitsandbytes is not installed, and an LMM in 4 or 8 bits needs it"
        yield Finding("broken", "quantization_config", text, BITS_CURE)


def check_files(config: Any) -> None:
    """Check that the data and weights that a config names are here, or can be downloaded.

    Raises:
        FileNotFoundError: Names all that are missing, and where they come from.
    """
    missing = [finding for finding in files(config) if finding.state == "broken"]
    if missing:
        cures = dict.fromkeys(finding.cure for finding in missing)
        raise FileNotFoundError("\n  ".join([f"{len(missing)} things are missing:", *cures]))


def _cure(path: Path) -> str:
    return SAM_CURE if path.name.startswith("sam_") else DATA_CURE


def _quantized(node: Any) -> bool:
    """Whether anything in a config has a `quantization_config`."""
    if isinstance(node, Mapping):
        if node.get("quantization_config"):
            return True
        node = [node[key] for key in node]
    return isinstance(node, list | tuple) and any(map(_quantized, node))


def named_paths(node: Any) -> Iterator[tuple[str, Path]]:
    """Keys and paths of the files and folders that a config names; a head of the hub (`hf://`) is none."""
    if isinstance(node, Mapping):
        named = ((key, node.get(key)) for key in (*FILES, *FOLDERS))
        yield from ((key, Path(path)) for key, path in named if isinstance(path, str) and not path.startswith(PREFIX))
        if "ann_file" in node:
            root = Path(node.get("data_root", ""))
            yield from ((key, root / node[key]) for key in ("ann_file", "split_file") if key in node)
            prefixes = node.get("data_prefix", {"img_path": node.get("image_folder", "train2014")})  # as in RESDataset
            yield from (("local_path", root / path) for path in prefixes.values())
        node = [node[key] for key in node]
    if isinstance(node, list | tuple):
        for child in node:
            yield from named_paths(child)


def named_weights(node: Any) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Arguments of :func:`weights` for each key of `WEIGHTS` in what a config builds."""
    if isinstance(node, Mapping):
        lmm, subfolder = (str(node.get(key) or "") for key in ("pretrained_model_name_or_path", "subfolder"))
        for key in [key for key in WEIGHTS if "type" in node and isinstance(node.get(key), str)]:
            inside = os.path.join(lmm, node[key])  # where MGM's towers may be
            yield inside if os.path.isdir(inside) else node[key], subfolder, WEIGHTS[key]
        node = [node[key] for key in node]
    if isinstance(node, list | tuple):
        for child in node:
            yield from named_weights(child)


def weights(name: str, subfolder: str = "", files: tuple[str, ...] = ("config.json",)) -> Finding:
    """The folder of an LMM or a part of it, or its name on the hub.

    Args:
        name: The folder or name.
        subfolder: Where in it.
        files: One of them is there when the repository is in the cache.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    place = os.path.join(name, subfolder) if subfolder else name
    if Path(place).is_dir():
        return Finding("ok", "weights", place)
    if name.count("/") != 1 or name.startswith((".", "/", "~", "checkpoints/")):
        return Finding(
            "broken", "weights", place, f"{place} is no folder: copy the LMM there, or name it as the hub does"
        )
    if any(isinstance(try_to_load_from_cache(name, os.path.join(subfolder, file)), str) for file in files):
        return Finding("ok", "weights", f"{place} in {constants.HF_HUB_CACHE}")
    cure = f"`hf download {name}` before the run, on a machine with network, into the HF_HOME that all nodes share"
    if constants.HF_HUB_OFFLINE:
        return Finding("broken", "weights", f"{place} is not in {constants.HF_HUB_CACHE}, and the hub is off", cure)
    return Finding("note", "weights", f"{place} is not in {constants.HF_HUB_CACHE}: every node will download it", cure)


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


def work_dir(config: Any, args: argparse.Namespace) -> Path:
    """The folder of a run's logs and checkpoints, by xtuner's rules."""
    return Path(args.work_dir or config.get("work_dir") or Path("work_dirs", Path(args.config).stem))


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
