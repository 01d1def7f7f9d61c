"""What is checked and said before a run starts, in seconds: an LMM takes minutes to load."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from flmm.checkpoint import latest_checkpoint
from flmm.outputs import in_folder
from flmm.paths import locate_all
from flmm.training.check_config import check_config, check_options, read_by_runner
from flmm.training.named_files import check_files
from segment_anything.checkpoint import no_torch_file

XTUNER = ("xtuner", "tools", "train.py")


def read_config(args: argparse.Namespace) -> Any:
    """The config with ``--cfg-options``, its keys checked, and the checkpoint of ``--resume`` in `load_from`.

    Raises:
        ValueError: An unknown key, or an option that is no setting.
        FileNotFoundError: No such DeepSpeed settings.
    """
    from mmengine.config import Config, DictAction
    from xtuner.configs import cfgs_name_path

    if args.deepspeed and not os.path.isfile(args.deepspeed) and args.deepspeed not in cfgs_name_path:
        raise FileNotFoundError(
            f"--deepspeed {args.deepspeed}: no file, and none of xtuner's names (deepspeed_zero2, ...)"
        )
    options = argparse.ArgumentParser()
    options.add_argument("--options", nargs="*", action=DictAction)
    config = Config.fromfile(args.config)
    check_options(args.cfg_options, config)
    config.merge_from_dict(options.parse_args(["--options", *args.cfg_options]).options or {})
    locate_all(config._cfg_dict)
    if args.resume not in (None, "latest"):
        if Path(args.resume).is_file() and (fault := no_torch_file(args.resume)):
            raise ValueError(f"--resume {args.resume} is no checkpoint: {fault}")
        config.load_from = args.resume
    check_config(config)
    return config


def work_dir(config: Any, args: argparse.Namespace) -> Path:
    """The folder of a run's logs and checkpoints, by xtuner's rules."""
    return Path(args.work_dir or config.get("work_dir") or Path("work_dirs", Path(args.config).stem))


def check_start(cfg: Any) -> None:
    """Check a run's config, the files that it names, and its work dir.

    Raises:
        ValueError: An unknown key, or a work dir that cannot be written.
        FileNotFoundError: Missing data or weights; names all of them.
        FileExistsError: The work dir holds another run.
    """
    check_config(cfg)
    check_files(read_by_runner(cfg))
    in_folder(Path(cfg.work_dir, "last_checkpoint"))
    found = None if cfg.get("resume") else latest_checkpoint(cfg.work_dir)
    if found:
        raise FileExistsError(
            f"{cfg.work_dir} holds {found} of an earlier run: continue that run with --resume {found}, or name another "
            "folder with --work-dir"
        )


def fit_workers(cfg: Any) -> None:
    """Start no more data workers than there are cores for: torch warns of it, and they would only wait for one another.

    The samples and their order do not depend on the number.

    Args:
        cfg: A run's config, changed in place.
    """
    loader, cores = cfg.get("train_dataloader", {}), len(os.sched_getaffinity(0))
    if loader.get("num_workers", 0) > cores:
        loader.num_workers = cores


def name_true_status() -> None:
    """Say once, under `xtuner train`, which command has a true exit status."""
    if Path(sys.argv[0]).parts[-3:] == XTUNER and os.environ.get("RANK", "0") == "0":
        print(
            "flmm: `xtuner train` exits with 0 even when the training fails; `flmm train` takes the same arguments and "
            "returns the true status",
            flush=True,
        )
