"""Hooks of a run: its losses stay finite, and a complete checkpoint is there at every moment."""

from __future__ import annotations

import math
import os
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS

from flmm.checkpoint import part_name, publish, trainable
from flmm.training.stop import inside_window

if TYPE_CHECKING:
    from mmengine.runner import Runner


class HealthHook(Hook):
    """Averages what is logged over the processes, stops a run at the first loss that is not finite, logs memory.

    It comes first, so it also finds out whether any process was asked to end.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Checks the losses before anything is saved; later hooks find their averages in `outputs`.

        Raises:
            FloatingPointError: In every process, with the iteration, its own losses and the files of its samples.
        """
        runner.stop.agree()  # type: ignore[attr-defined]
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
    place. DeepSpeed's files hold no gradients that wait for their step, so with it the checkpoint waits as well.
    """

    _due = False

    def before_train(self, runner: Runner) -> None:
        """Looks for the folder and earlier checkpoints as MMEngine does.

        Raises:
            ValueError: When a checkpoint after an epoch would fall inside an accumulation window of DeepSpeed.
        """
        from mmengine.runner.loops import EpochBasedTrainLoop  # not above: flmm.runner comes with it, and needs this

        super().before_train(runner)
        if self.by_epoch and isinstance(runner.train_loop, EpochBasedTrainLoop):
            check_epochs(runner.model, len(runner.train_dataloader))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Saves when it is time or the run is asked to end; inside a window of DeepSpeed at its end."""
        if self.by_epoch:
            return
        asked = bool(runner.stop.agreed)  # type: ignore[attr-defined]
        self._due |= asked or self.every_n_train_iters(runner, self.interval, self.save_begin)
        last = self.save_last and self.is_last_train_iter(runner)
        if last or (self._due and not inside_window(runner.model)):
            self._due = False
            runner.logger.info(f"Saving checkpoint at {runner.iter + 1} iterations")
            self._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        check_weights(runner.model, step)
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


def check_weights(model: Any, step: int) -> None:
    """Let no checkpoint be written, and no earlier one be deleted, after an update that destroyed the weights.

    A finite loss can have a gradient that is not, and what it did shows in the next loss only.

    Raises:
        FloatingPointError: With the step.
    """
    trained = trainable(getattr(model, "module", model)).values()
    if not torch.stack([value.detach().isfinite().all() for value in trained]).all():
        raise FloatingPointError(
            f"weights are not finite after step {step}, so nothing is saved: continue from the last checkpoint with "
            "--resume and a lower learning rate, or look at the samples since then"
        )


def check_epochs(model: Any, length: int) -> None:
    """Let DeepSpeed's accumulation windows end with the epochs, since its checkpoints hold no gradients.

    Args:
        model: The model, as DeepSpeed wraps it; others save these gradients.
        length: Batches of an epoch in each process.

    Raises:
        ValueError: When an epoch ends inside a window.
    """
    steps = getattr(model, "gradient_accumulation_steps", None)
    if steps is not None and length % steps():
        raise ValueError(
            f"an epoch of {length} batches ends inside a window of accumulative_counts={steps()}, and a checkpoint of "
            "DeepSpeed holds no gradients: save by iterations (by_epoch=False and interval of the checkpoint hook), "
            f"or choose accumulative_counts that {length} can be divided by"
        )


def safe_hooks(default_hooks: Any) -> Any:
    """Default hooks of a config, in which MMEngine's CheckpointHook is a :class:`SafeCheckpointHook`."""
    checkpoint = (default_hooks or {}).get("checkpoint")
    if not isinstance(checkpoint, dict) or checkpoint.get("type") not in ("CheckpointHook", CheckpointHook):
        return default_hooks
    return {**default_hooks, "checkpoint": {**checkpoint, "type": SafeCheckpointHook}}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
