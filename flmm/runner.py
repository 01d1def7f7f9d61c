"""The order of a run: check its config, load, resume, save; nothing about models.

Two runners share it: :class:`CustomRunner` (configs name it as ``runner_type``), and
:class:`DeepSpeedRunner`, which takes the name ``FlexibleRunner`` because ``xtuner train --deepspeed`` asks
for that one.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_main_process
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
    read_meta,
    save_atomically,
    trainable,
)
from flmm.training.check_config import check_config
from flmm.training.frozen_parts import check_alike, frozen_names, init_head
from flmm.training.gradients import pending_gradients, restore_gradients
from flmm.training.hooks import HealthHook
from flmm.training.resume import ResumedIterator, random_state


class _SharedRun:
    """What both runners do alike. Mixed in before MMEngine's class."""

    _resume: bool | str
    _load_from: str | None

    @classmethod
    def from_cfg(cls, cfg: Any) -> Any:
        """Builds the runner after checking the config's keys.

        Raises:
            ValueError: When a key is not known; it names the key, its place and what may be meant.
        """
        check_config(cfg)
        return super().from_cfg(cfg)  # type: ignore[misc]

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        """Registers the hooks of the config, and :class:`HealthHook`."""
        super().register_hooks(default_hooks, custom_hooks)  # type: ignore[misc]
        # before all others: what it averages is what they log
        self.register_hook(HealthHook(), priority="HIGHEST")  # type: ignore[attr-defined]

    def load_or_resume(self) -> None:
        """Loads or resumes as the config says; ``resume = True`` alone takes the newest checkpoint."""
        if self._resume is True and self._load_from is None:
            self._load_from = latest_checkpoint(self.work_dir)  # type: ignore[attr-defined]
        super().load_or_resume()  # type: ignore[misc]

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continues where the checkpoint left off: weights, optimizer, schedules, data, random states."""
        super().resume(filename, *args, **kwargs)  # type: ignore[misc]
        meta = read_meta(filename)
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

    @property
    def _bare_model(self) -> nn.Module:
        model = self.model  # type: ignore[attr-defined]
        return getattr(model, "module", model)


@RUNNERS.register_module()
class CustomRunner(_SharedRun, Runner):
    """MMEngine's Runner that saves trainable parameters only, atomically, and resumes exactly."""

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wraps the model for several processes; DistributedDataParallel does not send the frozen parameters."""
        if self.distributed:
            check_alike(model)
            ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
            ignore(model, frozen_names(model))
        return super().wrap_model(model_wrapper_cfg, model)

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
        checkpoint = {
            "meta": {**self._meta(by_epoch), **(meta or {}), "rng_states": rng_states},
            "state_dict": {name: value.detach().cpu() for name, value in trainable(self._bare_model).items()},
            "message_hub": self.message_hub.state_dict(),
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
            "seed": self.seed,
            "experiment_name": self.experiment_name,
            "time": time.strftime("%Y%m%d_%H%M%S"),
            "mmengine_version": mmengine.__version__,
            "dataset_meta": getattr(self.train_dataloader.dataset, "metainfo", None),
        }

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a head (``load_from``); returns the file's content, which `resume` goes on to use."""
        load_head(self._bare_model, filename)
        self._has_loaded = True
        checkpoint = {} if _is_head_only(filename) else read_checkpoint(filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continues a run of this runner.

        Raises:
            ValueError: When the checkpoint is a DeepSpeed folder or holds weights only.
        """
        if _is_head_only(filename):
            raise ValueError(
                f"cannot resume from {filename} without DeepSpeed: add `--deepspeed deepspeed_zero2` to "
                "resume a DeepSpeed folder, or set `load_from` to start a new run from its weights"
            )
        super().resume(filename, *args, **kwargs)
        if gradients := read_checkpoint(filename).get("gradients"):
            restore_gradients(self._bare_model, gradients)
            self.logger.info(f"{filename} was saved inside an accumulation window: its gradients are restored")


@RUNNERS.register_module(name="FlexibleRunner", force=True)
class DeepSpeedRunner(_SharedRun, FlexibleRunner):
    """MMEngine's FlexibleRunner, for DeepSpeed, with the same promises as :class:`CustomRunner`."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, meta: dict | None = None, **kwargs: Any) -> None:
        """Saves a DeepSpeed folder under a temporary name, then renames it; every process must call it."""
        rng_states = all_gather_object(random_state())
        part, path = part_name(Path(out_dir) / filename), Path(out_dir) / filename
        if is_main_process():
            shutil.rmtree(part, ignore_errors=True)
        barrier()
        meta = {**(meta or {}), "rng_states": rng_states}
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


def _is_head_only(filename: str) -> bool:
    return Path(filename).is_dir() or filename.endswith(".safetensors")
