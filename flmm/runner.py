"""The order of a run: check its config, load, resume, save; nothing about models.

Two runners share it: :class:`CustomRunner` (configs name it as ``runner_type``), and :class:`DeepSpeedRunner`, which
``xtuner train --deepspeed`` gets where it asks for MMEngine's ``FlexibleRunner`` (flmm/compat/runners.py).
"""

from __future__ import annotations

import copy
import json
import shutil
import signal
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_distributed, is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner
from mmengine.runner.loops import IterBasedTrainLoop
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flmm.checkpoint import (
    latest_checkpoint,
    load_head,
    part_name,
    publish,
    read_checkpoint,
    read_head,
    read_meta,
    save_atomically,
    trainable,
)
from flmm.config_data import to_data
from flmm.datasets.annotations import share_with_workers
from flmm.head_folder import head_file
from flmm.paths import locate_all
from flmm.training import logs
from flmm.training.frozen_parts import check_alike, frozen_names, init_head
from flmm.training.gradients import pending_gradients, restore_gradients
from flmm.training.hooks import HealthHook, safe_hooks
from flmm.training.resume import ResumedIterator, random_state
from flmm.training.start import check_start, fit_workers, name_true_status
from flmm.training.stop import Stop, StopHook, start_worker
from flmm.training.terminal import Terminal


class _SharedRun:
    """What both runners do alike. Mixed in before MMEngine's class."""

    _resume: bool | str
    _load_from: str | None
    _terminal: Terminal | None = None  # None in a runner that was MMEngine's own (flmm.compat.runners)
    stop: Stop  # while it trains

    @classmethod
    def from_cfg(cls, cfg: Any) -> Any:
        """Builds the runner after checking what takes no time: keys, files, the work dir.

        Raises:
            ValueError: When a key is not known; it names the key, its place and what may be meant.
            FileNotFoundError: When data or weights are missing.
            FileExistsError: When the work dir holds another run.
        """
        name_true_status()
        cfg = copy.deepcopy(cfg)
        locate_all(cfg._cfg_dict)
        check_start(cfg)
        fit_workers(cfg)
        return super().from_cfg(cfg)  # type: ignore[misc]

    def _log_env(self, *args: Any) -> None:
        """Logs machine, config and hooks into the file only: the terminal shall show losses within a screen."""
        self._terminal = Terminal(self.logger)  # type: ignore[attr-defined]
        self._terminal.only_warnings()
        super()._log_env(*args)  # type: ignore[misc]

    def train(self) -> nn.Module:
        """Trains.

        Raises:
            SystemExit: With status 130 on Ctrl-C and 143 on SIGTERM, after a checkpoint is saved and a line says how to
                continue.
        """
        if self._terminal is not None:
            self._terminal.as_before()
        log = Path(self.log_dir, f"{self.timestamp}.log")  # type: ignore[attr-defined]
        self.logger.info(f"machine, config and hooks: {log}")  # type: ignore[attr-defined]
        self.stop = Stop()
        try:
            with self.stop:
                return super().train()  # type: ignore[misc]
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # flmm train passes on what the terminal sends to all
            if is_main_process():
                newest = latest_checkpoint(self.work_dir)  # type: ignore[attr-defined]
                kept = f"--resume continues from {newest}" if newest else "nothing was saved yet"
                print(f"\nstopped; {kept}", flush=True)
            raise SystemExit(128 + (self.stop.agreed or signal.SIGINT)) from None

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        """Registers the hooks of the config, with our checkpoints, :class:`HealthHook` and :class:`StopHook`."""
        super().register_hooks(safe_hooks(default_hooks), custom_hooks)  # type: ignore[misc]
        # before all others: what it averages is what they log
        self.register_hook(HealthHook(), priority="HIGHEST")  # type: ignore[attr-defined]
        self.register_hook(StopHook(), priority="LOWEST")  # type: ignore[attr-defined]  # after what saves

    def load_or_resume(self) -> None:
        """Loads or resumes as the config says; ``resume = True`` alone takes the newest checkpoint."""
        if self._resume is True and self._load_from is None:
            self._load_from = latest_checkpoint(self.work_dir)  # type: ignore[attr-defined]
        super().load_or_resume()  # type: ignore[misc]

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continues where the checkpoint left off: weights, optimizer, schedules, data, random states."""
        super().resume(filename, *args, **kwargs)  # type: ignore[misc]
        meta = self._meta_of(filename)
        states = meta.get("rng_states", [])
        if len(states) != get_world_size():
            self.logger.warning(  # type: ignore[attr-defined]
                f"{filename} was saved by {len(states)} processes, now there are {get_world_size()}: "
                "the order of the samples and the random numbers will not be those of an uninterrupted run"
            )
            states = [random_state()] * get_world_size()
        loop = self.train_loop  # type: ignore[attr-defined]
        # An InfiniteSampler has no epochs to start from; with it MMEngine loads and drops what has been seen.
        if isinstance(loop, IterBasedTrainLoop) and not isinstance(loop.dataloader.sampler, InfiniteSampler):
            loop.dataloader_iterator = ResumedIterator(loop.dataloader, meta["iter"], states[get_rank()])

    def _meta_of(self, filename: str) -> dict[str, Any]:
        return read_meta(filename)

    def build_dataloader(self, dataloader: Any, seed: int | None = None, **kwargs: Any) -> Any:
        """Builds a loader as MMEngine does; its workers share the memory of this process, and outlive a SIGTERM."""
        if isinstance(dataloader, dict) and seed is not None and "worker_init_fn" not in dataloader:
            dataloader = copy.deepcopy(dataloader)
            seeds = {"num_workers": dataloader.get("num_workers"), "rank": get_rank(), "seed": seed}
            seeds["disable_subprocess_warning"] = dataloader.pop("disable_subprocess_warning", False)
            dataloader["worker_init_fn"] = {"type": start_worker.__name__, **seeds}  # FlexibleRunner takes no function
        loader = super().build_dataloader(dataloader, seed=seed, **kwargs)  # type: ignore[misc]
        share_with_workers()
        return loader

    @cached_property
    def _config_text(self) -> str | None:
        """The config as a checkpoint carries it (flmm/config_data.py); None for one that cannot be written as data."""
        try:
            return json.dumps(to_data(self.cfg))  # type: ignore[attr-defined]
        except ValueError as error:
            self.logger.info(  # type: ignore[attr-defined]
                f"checkpoints of this run carry no config, so it must be named with them: {error}"
            )
            return None

    @property
    def _bare_model(self) -> nn.Module:
        model = self.model  # type: ignore[attr-defined]
        return getattr(model, "module", model)


@RUNNERS.register_module()
class CustomRunner(_SharedRun, Runner):
    """MMEngine's Runner that saves trainable parameters only, atomically, and resumes exactly."""

    _content: dict[str, Any] | None = None  # what the file holds, while a run resumes from it

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wraps the model for several processes; DistributedDataParallel does not send the frozen parameters."""
        if self.distributed:
            check_alike(model)
            ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
            ignore(model, frozen_names(model))
            model_wrapper_cfg = self._wrapper(model_wrapper_cfg)
        return super().wrap_model(model_wrapper_cfg, model)

    def _wrapper(self, config: dict | None) -> dict:
        unused = self.cfg.get("find_unused_parameters", True)  # parts of SAM's decoder take no gradient
        config = dict(config or {"broadcast_buffers": False, "find_unused_parameters": unused})
        if not torch.cuda.is_available():
            config["device_ids"] = None  # mmengine 0.10.7 names one, which torch 2.11 refuses for models on the CPU
        return config

    def setup_env(self, env_cfg: dict) -> None:
        """Sets up processes and random numbers; without a GPU the processes meet by gloo, whatever the config says."""
        if self.distributed and not torch.cuda.is_available() and not is_distributed():
            torch.distributed.init_process_group("gloo")  # mmengine 0.10.7 would ask CUDA for a device first
        super().setup_env(env_cfg)

    def _init_model_weights(self) -> None:
        init_head(self._bare_model)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Saves the head and what resuming needs, on the main process; every process must call it."""
        rng_states = all_gather_object(random_state())
        gradients = pending_gradients(self._bare_model)
        if not is_main_process():
            return
        checkpoint: dict[str, Any] = {
            "meta": {**self._meta(by_epoch), **(meta or {}), "rng_states": rng_states},
            "state_dict": {name: value.detach().cpu() for name, value in trainable(self._bare_model).items()},
            "message_hub": logs.to_plain(self.message_hub.state_dict()),
        }
        if gradients:
            checkpoint["gradients"] = gradients
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = [schedule.state_dict() for schedule in self.param_schedulers]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        save_atomically(checkpoint, Path(out_dir) / filename)

    def _meta(self, by_epoch: bool) -> dict[str, Any]:
        # The loops count an epoch or iteration only after the hooks that save have run.
        return {
            "epoch": self.epoch + by_epoch,
            "iter": self.iter + (not by_epoch),
            "cfg": self.cfg.pretty_text,
            "flmm_config": self._config_text,
            "seed": self.seed,
            "experiment_name": self.experiment_name,
            "time": time.strftime("%Y%m%d_%H%M%S"),
            "mmengine_version": mmengine.__version__,
            "dataset_meta": getattr(self.train_dataloader.dataset, "metainfo", None),
        }

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a head (``load_from``); returns the file's content, which `resume` goes on to use."""
        file = head_file(filename)
        head_only = _is_head_only(file)
        checkpoint = {} if head_only else read_checkpoint(filename)
        load_head(self._bare_model, filename, read_head(file) if head_only else checkpoint.get("state_dict"))
        self._has_loaded = True
        if "message_hub" in checkpoint:
            checkpoint["message_hub"] = logs.from_plain(checkpoint["message_hub"])
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        if self._content is not None:
            self._content = checkpoint
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continues a run of this runner.

        Raises:
            ValueError: When the checkpoint is a DeepSpeed folder or holds weights only.
        """
        if _is_head_only(head_file(filename)):
            raise ValueError(
                f"cannot resume from {filename} without DeepSpeed: add `--deepspeed deepspeed_zero2` to "
                "resume a DeepSpeed folder, or set `load_from` to start a new run from its weights"
            )
        self._content = {}
        super().resume(filename, *args, **kwargs)
        gradients, window = self._content.get("gradients"), self.cfg.optim_wrapper.get("accumulative_counts", 1)
        if gradients:
            restore_gradients(self._bare_model, gradients)
            self.logger.info(f"{filename} was saved inside an accumulation window: its gradients are restored")
        elif gathered := self._content["meta"]["iter"] % window:
            self.logger.warning(
                f"{filename} holds no gradients of the {gathered} iterations since the last step of the optimizer "
                f"(accumulative_counts={window}), as of an earlier version: the next step goes without them"
            )
        self._content = None

    def _meta_of(self, filename: str) -> dict[str, Any]:
        return (self._content or read_checkpoint(filename))["meta"]


@RUNNERS.register_module()
class DeepSpeedRunner(_SharedRun, FlexibleRunner):
    """MMEngine's FlexibleRunner, for DeepSpeed, with the same promises as :class:`CustomRunner`."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, meta: dict | None = None, **kwargs: Any) -> None:
        """Saves a DeepSpeed folder under a temporary name, then renames it; every process must call it."""
        rng_states = all_gather_object(random_state())
        part, path = part_name(Path(out_dir) / filename), Path(out_dir) / filename
        if is_main_process():
            shutil.rmtree(part, ignore_errors=True)
        barrier()
        meta = {**(meta or {}), "rng_states": rng_states, "flmm_config": self._config_text}
        try:
            super().save_checkpoint(out_dir, part.name, *args, meta=meta, **kwargs)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise OSError(f"could not save {path}: {error}. Earlier checkpoints are untouched") from error
        barrier()
        if is_main_process():
            publish(part, path)
        barrier()

    def build_strategy(self, strategy: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Builds xtuner's DeepSpeedStrategy as the :class:`HeadStrategy`; others as they are."""
        from flmm.training.deepspeed_strategy import HeadStrategy

        if isinstance(strategy, dict) and "DeepSpeedStrategy" in str(strategy["type"]):
            strategy = {**strategy, "type": HeadStrategy}
        return super().build_strategy(strategy, *args, **kwargs)

    def train(self) -> nn.Module:
        """Trains; ``load_from`` is loaded before DeepSpeed makes its float32 copies of the head."""
        if self._load_from is not None and not self._resume:
            self.strategy.head = self._load_from
            self._has_loaded = True
        return super().train()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continues a DeepSpeed run.

        Raises:
            ValueError: When the checkpoint is not a DeepSpeed folder.
        """
        if not Path(filename).is_dir():
            raise ValueError(
                f"cannot resume from {filename} with DeepSpeed: it is not a DeepSpeed folder. Leave "
                "`--deepspeed` out, or set `load_from` to start a new run from its weights"
            )
        super().resume(filename, *args, **kwargs)


def _is_head_only(file: Path) -> bool:
    return file.is_dir() or file.suffix == ".safetensors"
