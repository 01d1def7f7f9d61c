"""How a run checks its config, saves, loads and resumes; nothing about models.

Two runners share it: :class:`CustomRunner` (configs name it as ``runner_type``), and
:class:`DeepSpeedRunner`, which takes the name ``FlexibleRunner`` because ``xtuner train --deepspeed`` asks
for that one.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import random
import resource
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce, barrier, get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import FlexibleRunner, Runner
from mmengine.runner.loops import IterBasedTrainLoop, _InfiniteDataloaderIterator
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler

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
from flmm.training.frozen_parts import check_alike, frozen_names, init_head
from flmm.training.gradients import pending_gradients, restore_gradients


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


class ResumedIterator(_InfiniteDataloaderIterator):
    """An endless iterator that starts where a run stopped, without loading the samples it has seen.

    MMEngine advances by calling `next` once per iteration done; these calls return None at no cost. The last
    of them puts the sampler in its place and the random states back; so late because a hook sets the
    sampler's epoch before.

    Args:
        dataloader: The loader of the run.
        done: Batches this process has trained on, more than 0.
        rng: Its :func:`random_state` at that moment.
    """

    def __init__(self, dataloader: DataLoader, done: int, rng: dict[str, Any]) -> None:
        self._dataloader, self._done, self._rng = dataloader, done, rng
        self._to_skip = done
        self._epoch = (done - 1) // len(dataloader)

    def __next__(self) -> Any:
        if self._to_skip == 0:
            return super().__next__()
        self._to_skip -= 1
        if self._to_skip == 0:
            self._start()
        return None

    def _start(self) -> None:
        loader = self._dataloader
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(self._epoch)
        batches = self._done - self._epoch * len(loader)
        order: Any = loader.batch_sampler
        order.sampler = _StartAt(order.sampler, batches * order.batch_size)
        self._iterator = iter(loader)
        set_random_state(self._rng)


class _StartAt:
    """A sampler that leaves out its first indices, the first time."""

    def __init__(self, sampler: Sampler, start: int) -> None:
        self._sampler, self._start = sampler, start

    def __iter__(self) -> Iterator[int]:
        start, self._start = self._start, 0
        return islice(iter(self._sampler), start, None)

    def __len__(self) -> int:
        return len(self._sampler)  # type: ignore[arg-type]


def random_state() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's generators in this process, as plain values and CPU tensors."""
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Puts back what :func:`random_state` took."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


class HealthHook(Hook):
    """Averages what is logged over the processes, stops a run at the first loss that is not finite, logs memory."""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Checks the losses before anything is saved; later hooks find their averages in `outputs`.

        Raises:
            FloatingPointError: In every process, with the iteration, its own losses and the files of its samples.
        """
        terms = {} if outputs is None else outputs
        own = dict(zip(terms, torch.stack([value.detach().double() for value in terms.values()]).tolist(), strict=True))
        terms.update(average(own))
        if not all(math.isfinite(value) for name, value in terms.items() if "loss" in name):
            raise FloatingPointError(_not_finite(runner.iter + 1, own, data_batch))
        if not torch.cuda.is_available():  # on GPUs MMEngine logs it
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            runner.message_hub.update_scalar("train/memory", peak)


def average(values: dict[str, float]) -> dict[str, float]:
    """The mean of each value over the processes."""
    if get_world_size() == 1:
        return values
    means = torch.tensor(list(values.values()), dtype=torch.float64, device=get_device())
    all_reduce(means, "mean")
    return dict(zip(values, means.tolist(), strict=True))


def _not_finite(iteration: int, terms: dict[str, float], data_batch: Any) -> str:
    losses = {name: value for name, value in terms.items() if "loss" in name}
    samples = data_batch.get("data", []) if isinstance(data_batch, dict) else []
    names = ", ".join(str(sample.get("file_name", "?")) for sample in samples) or "unknown"
    if all(math.isfinite(value) for value in losses.values()):
        return f"loss is not finite in iteration {iteration} of another process; its own message names the sample"
    return (
        f"loss is not finite in iteration {iteration}: {losses}; sample: {names}. Nothing was saved since the last "
        "checkpoint. Look at this sample's image and masks, or lower the learning rate"
    )


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """A CheckpointHook after which there is a complete checkpoint at every moment.

    MMEngine 0.10.7 deletes the outdated file before it writes the new one, and rewrites `last_checkpoint` in
    place.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = self._keep(runner, step)
        self.last_ckpt = os.path.join(self.out_dir, self.filename_tmpl.format(step))
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        if is_main_process():
            note = Path(runner.work_dir, "last_checkpoint")
            part_name(note).write_text(self.last_ckpt)
            publish(part_name(note), note)
            for old in outdated:
                _remove(Path(self.out_dir, self.filename_tmpl.format(old)))

    def _keep(self, runner: Runner, step: int) -> list[int]:
        """Notes the new step; returns the steps whose checkpoints may go once it is saved."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return []
        steps = [*self.keep_ckpt_ids, step]
        self.keep_ckpt_ids.append(step)  # a deque of max_keep_ckpts
        runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        return steps[: -self.max_keep_ckpts]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# Keys MMEngine's runners read; everything else at the top of a config is the author's own variable.
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    *("runner_type", "find_unused_parameters", "strategy", "activation_checkpointing"),
}
# Keys that builders take out of a dict before they call its `type`.
BUILDER_KEYS = {"type", "_scope_", "priority", "convert_to_iter_based", "requires_grad"}


def check_config(cfg: Any) -> None:
    """Looks for keys that nobody would read, before anything large is loaded.

    Raises:
        ValueError: For a top-level key one slip away from one the runner knows, and for a keyword that a
        class
            or function named by `type` does not take.
    """
    for key in cfg:
        near = difflib.get_close_matches(key, RUNNER_KEYS, n=1, cutoff=0.85)
        if isinstance(cfg[key], (dict, list)) and key not in RUNNER_KEYS and near and near[0] not in cfg:
            raise ValueError(f"unknown config key `{key}`: did you mean `{near[0]}`?")
        _check_keywords(cfg[key], key)


def _check_keywords(node: Any, place: str) -> None:
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            _check_keywords(item, f"{place}[{index}]")
    elif isinstance(node, dict):
        if callable(node.get("type")):
            _check_call(node, place)
        for key in node:
            _check_keywords(node[key], f"{place}.{key}")


def _check_call(node: dict, place: str) -> None:
    target = node["type"]
    known, open_ended = _keywords(target)
    unknown = sorted(set(node) - known - BUILDER_KEYS)
    if open_ended or not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(sorted(known))}"
    raise ValueError(
        f"unknown config key `{place}.{unknown[0]}`: {getattr(target, '__qualname__', target)} does not take it; {hint}"
    )


def _keywords(target: Any) -> tuple[set[str], bool]:
    """Names of the keywords a callable takes, and whether it may take others.

    Our own classes hand their ``**kwargs`` to the base class; what other packages do with theirs cannot be
    known.
    """
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(base)["__init__"] for base in target.__mro__[:-1] if "__init__" in vars(base)]
    known: set[str] = set()
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        known |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return known, False
        if not function.__module__.startswith("flmm."):
            return known, True
    return known, True
