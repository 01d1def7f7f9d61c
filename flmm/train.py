"""``flmm train``: the same as ``xtuner train``, but with the true exit status.

xtuner 0.2.0 starts whatever `python` is first on the PATH, and exits 0 even when training crashed. Its
environment variables are ours as well: NPROC_PER_NODE, NNODES, NODE_RANK, ADDR, PORT.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys


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
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change settings of the config"
    )
    parser.add_argument("--launcher", default="none", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Trains in child processes, one per NPROC_PER_NODE; returns 0 or the first failed child's exit status.

    Raises:
        FileNotFoundError: When there is no such config.
    """
    if not os.path.isfile(args.config):
        raise FileNotFoundError(f"config {args.config} does not exist")
    nodes, processes = (int(os.environ.get(name, 1)) for name in ("NNODES", "NPROC_PER_NODE"))
    if nodes * processes > 1:
        args.launcher = "pytorch"
    command = [sys.executable, *_torchrun(nodes, processes), "-m", "flmm.train", *_arguments(args)]
    status = subprocess.run(command, check=False).returncode
    return status if status >= 0 else 128 - status


def _torchrun(nodes: int, processes: int) -> list[str]:
    if nodes * processes == 1:
        return []
    where = {
        "node_rank": os.environ.get("NODE_RANK", "0"),
        "master_addr": os.environ.get("ADDR", "127.0.0.1"),
    }
    where["master_port"] = os.environ.get("PORT", str(20000 + os.getpid() % 10000))
    options = [f"--{name}={value}" for name, value in where.items()]
    return ["-m", "torch.distributed.run", f"--nnodes={nodes}", f"--nproc_per_node={processes}", *options]


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
    return [*words, *(["--cfg-options", *args.cfg_options] if args.cfg_options else [])]


def _child() -> None:
    """One training process: resolves ``--resume latest`` and hands over to xtuner."""
    parser = argparse.ArgumentParser("flmm train")
    add_arguments(parser)
    args, of_torchrun = parser.parse_known_args()
    if args.resume == "latest":
        args.resume = _latest(args)
    sys.argv = ["xtuner train", *_arguments(args), *of_torchrun]
    from xtuner.tools.train import main

    main()


def _latest(args: argparse.Namespace) -> str | None:
    from mmengine.config import Config

    from flmm.checkpoint import latest_checkpoint

    name = os.path.splitext(os.path.basename(args.config))[0]
    work_dir = args.work_dir or Config.fromfile(args.config).get("work_dir") or os.path.join("work_dirs", name)
    return latest_checkpoint(work_dir)


if __name__ == "__main__":
    _child()
