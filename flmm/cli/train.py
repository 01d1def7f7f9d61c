"""``flmm train``: the same as ``xtuner train``, but with the true exit status.

xtuner 0.2.0 starts whatever `python` is first on the PATH, and exits 0 even when training crashed. Its
environment variables are ours as well: NPROC_PER_NODE, NNODES, NODE_RANK, ADDR, PORT. With `--launcher slurm`
each task that srun starts is one process.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from flmm.cli.script import MENDABLE, said
from flmm.config import config_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``xtuner train``; ``--resume`` alone takes the work dir's newest checkpoint."""
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of logs and checkpoints (default: work_dirs/<config name>)")
    parser.add_argument("--deepspeed", metavar="NAME", help="for example deepspeed_zero2, or a .json file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="latest",
        metavar="CHECKPOINT",
        help="continue a run (default: its newest checkpoint)",
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--only",
        choices=("keywords",),
        help="train the keyword selector alone, onto the head that --cfg-options load_from=HEAD names",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change settings of the config"
    )
    parser.add_argument("--dry-run", action="store_true", help="check config, files, devices, network, disk; train not")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none", help="slurm: under srun")


def run(args: argparse.Namespace) -> NoReturn:
    """Become the training process, or the torchrun that starts NPROC_PER_NODE of them.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: Several nodes are asked for and one does not know its place.
    """
    args.config = config_file(args.config)
    if args.only:
        _train_only(args)
    nodes, processes = (int(os.environ.get(name, 1)) for name in ("NNODES", "NPROC_PER_NODE"))
    by_torchrun = args.launcher != "slurm" and nodes * processes > 1
    if by_torchrun:
        args.launcher = "pytorch"
    launcher = _torchrun(nodes, processes, args.dry_run) if by_torchrun else []
    if args.dry_run and nodes > 1:
        print(f"flmm train: waiting at most three minutes for {nodes} nodes at {os.environ['ADDR']}")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "flmm.cli.train", *_arguments(args)])


def _train_only(args: argparse.Namespace) -> None:
    """Writes ``--only`` as settings of the config, and gives the run a folder apart from the head's.

    Raises:
        ValueError: When no trained head is named.
    """
    named = any(option.startswith(("load_from=", "model.pretrained=")) for option in args.cfg_options)
    if not named and not args.resume:
        raise ValueError(
            f"--only {args.only} trains onto a head that is trained already: add --cfg-options load_from=HEAD.pth"
        )
    args.cfg_options = [f"model.train_only={args.only}", *args.cfg_options]
    args.work_dir = args.work_dir or os.path.join("work_dirs", f"{Path(args.config).stem}_{args.only}")


def _torchrun(nodes: int, processes: int, dry_run: bool) -> list[str]:
    """The words that make Python a torchrun; a dry run waits three minutes for other nodes instead of ten."""
    absent = [name for name in ("NODE_RANK", "ADDR", "PORT") if name not in os.environ]
    if nodes > 1 and absent:
        raise ValueError(
            f"NNODES={nodes}, but {', '.join(absent)} is not set: give each node its NODE_RANK (0..{nodes - 1}), and "
            "all of them the ADDR (host name) of node 0 and a free PORT there"
        )
    where = {
        "nnodes": nodes,
        "nproc_per_node": processes,
        "node_rank": os.environ.get("NODE_RANK", "0"),
        "master_addr": os.environ.get("ADDR", "127.0.0.1"),
        "master_port": os.environ.get("PORT", str(20000 + os.getpid() % 10000)),
        **({"rdzv_conf": "timeout=180"} if dry_run else {}),
    }
    return ["-m", "flmm.cli.torchrun", *(f"--{name}={value}" for name, value in where.items())]


def _arguments(args: argparse.Namespace) -> list[str]:
    """The command line that parses to `args`."""
    named = {
        "--work-dir": args.work_dir,
        "--deepspeed": args.deepspeed,
        "--resume": args.resume,
        "--seed": args.seed,
        "--launcher": args.launcher,
    }
    words = [args.config]
    for name, value in named.items():
        words += [] if value is None else [name, str(value)]
    words += ["--dry-run"] if args.dry_run else []
    return [*words, *(["--cfg-options", *args.cfg_options] if args.cfg_options else [])]


def child(words: Sequence[str]) -> int:
    """One training process: resolves ``--resume latest`` and srun's variables, then hands over to xtuner."""
    parser = argparse.ArgumentParser("flmm train")
    add_arguments(parser)
    args, of_torchrun = parser.parse_known_args(words)
    if args.launcher == "slurm":
        os.environ.update(slurm_variables(os.environ))
        args.launcher = "pytorch"
    if args.dry_run:
        from flmm.training.dry_run import check

        return check(args)
    try:
        _prepare(args)
    except MENDABLE as error:
        print(f"flmm train: {said(error)}", file=sys.stderr)
        return 1
    sys.argv = ["xtuner train", *_arguments(args), *of_torchrun]
    try:
        from xtuner.tools.train import main

        main()
    except KeyboardInterrupt:
        print("\nflmm train: stopped before the first iteration", file=sys.stderr)
        return 130
    return 0


def _prepare(args: argparse.Namespace) -> None:
    """Checks what takes no time, and puts what ``--resume`` and a config without runner leave open into `args`."""
    from flmm.training.start import check_start, read_config, work_dir

    config = read_config(args)
    config.work_dir = str(work_dir(config, args))
    if args.resume == "latest":
        args.resume = _latest(config.work_dir)
    config.resume = args.resume is not None
    check_start(config)
    if "runner_type" not in config:  # as in the reference's configs
        args.cfg_options = [*args.cfg_options, "runner_type=CustomRunner"]
        importlib.import_module("flmm.runner")  # registers it


def slurm_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What torchrun would set, of what srun sets; MASTER_ADDR and MASTER_PORT win when they are set.

    Jobs on the same node get different ports.

    Raises:
        ValueError: When srun's variables are not there.
    """
    names = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
    absent = [name for name in (*names.values(), "SLURM_JOB_ID", "SLURM_JOB_NODELIST") if name not in environ]
    if absent:
        raise ValueError(f"--launcher slurm, but {', '.join(absent)} is not set: start it with srun (docs/training.md)")
    variables = {name: environ[source] for name, source in names.items()}
    variables["MASTER_PORT"] = environ.get("MASTER_PORT") or str(20000 + int(environ["SLURM_JOB_ID"]) % 10000)
    variables["MASTER_ADDR"] = environ.get("MASTER_ADDR") or _first_host(environ["SLURM_JOB_NODELIST"])
    return variables


def _first_host(nodes: str) -> str:
    """The first of slurm's compressed list of host names, e.g. node07 of node[07-09,12]."""
    listing = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return listing.stdout.split()[0]


def _latest(folder: str) -> str | None:
    """The newest checkpoint of a work dir, if any; the first process says which."""
    from flmm.checkpoint import latest_checkpoint

    found = latest_checkpoint(folder)
    if os.environ.get("RANK", "0") == "0":
        what = f"continuing {found}" if found else f"no checkpoint in {folder}, starting afresh"
        print(f"flmm train: {what}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(child(sys.argv[1:]))
