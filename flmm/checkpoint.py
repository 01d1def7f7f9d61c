"""Files of trained heads: written atomically, read from torch files, safetensors and DeepSpeed folders."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import platform
import shutil
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_world_size
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _get_default_store

from flmm.head_folder import WEIGHTS, head_file
from segment_anything.checkpoint import UNREADABLE, no_torch_file, tensor_problem, unwrapped

STATISTICS = ("min", "max", "current", "mean")


def _statistic(owner: Any, name: str) -> Any:
    """Stands in for `getattr`, by which a HistoryBuffer's methods are saved: the real one would hand out `exec`.

    Raises:
        pickle.UnpicklingError: When anything else is asked for.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise pickle.UnpicklingError(f"it asks for {name!r} of {owner!r}")
    return getattr(owner, name)


# What MMEngine and DeepSpeed save beside tensors, so that their checkpoints can be read without running code
# from them.
SAFE_TYPES = [
    ConfigDict,
    HistoryBuffer,
    OrderedDict,
    deque,
    (_statistic, "builtins.getattr"),
    np.ndarray,
    np.dtype,
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u4", "bool")),
]
torch.serialization.add_safe_globals(SAFE_TYPES)  # for good: mmengine and xtuner read such files too


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_head` did: parameter names loaded, and names in the file that were left alone."""

    matched: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        rooms = sorted({".".join(name.split(".")[:2]) for name in self.unexpected})
        tail = f" ({', '.join(rooms[:6])}{', ...' if len(rooms) > 6 else ''})" if rooms else ""
        left = f"{len(self.unexpected)} in the file not used"
        return f"{len(self.matched)} parameters loaded, 0 missing, {left}{tail}"


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of the head by name: everything that takes a gradient.

    Raises:
        ValueError: When a layer of the head has running statistics: they take none, and DeepSpeed does not save them.
    """
    for name, layer in model.named_modules():
        if getattr(layer, "running_mean", None) is not None and _trained(model.get_submodule(name.rpartition(".")[0])):
            raise ValueError(
                f"{name} ({type(layer).__name__}) in the head has running statistics, which are not saved with its "
                "parameters: choose another norm, e.g. norm_cfg=dict(type='GN', num_groups=1)"
            )
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _trained(module: nn.Module) -> bool:
    return any(value.requires_grad for value in module.parameters())


def load_head(model: nn.Module, path: str | os.PathLike, state: dict[str, Tensor] | None = None) -> LoadReport:
    """Loads a trained head into a model, complete or not at all.

    Args:
        model: A model whose trainable parameters are the head.
        path: A torch file, a .safetensors file, the folder of a DeepSpeed checkpoint, or a head as
            `flmm.head_folder.find_head` takes it: a folder, or a name on the hub.
        state: The parameters in it, when they have been read.

    Raises:
        FileNotFoundError: When there is no such file, or the hub has no such head.
        ValueError: When the file cannot be read, belongs to another backbone (with the shapes), or lacks a
        parameter.
    """
    state = read_head(path) if state is None else state
    found = {name.removeprefix("module."): value for name, value in state.items()}
    needed = trainable(model)
    if not needed:
        raise ValueError(f"cannot load {path}: the model has no trainable parameter; load before freezing it")
    if train_only := getattr(model, "train_only", None):  # a head that has no such part yet gets it by training
        needed = {name: value for name, value in needed.items() if name in found or name.split(".")[0] != train_only}
    _check_complete(path, needed, found)
    with torch.no_grad():
        for name, parameter in needed.items():
            parameter.copy_(found[name])
    if isinstance(model, BaseModule):
        model.is_init = True  # else MMEngine's runners initialize the U-Net again when training starts
    report = LoadReport(sorted(needed), sorted(found.keys() - needed.keys()))
    print_log(f"{path}: {report}", logger="current")
    return report


def _check_complete(path: str | os.PathLike, needed: dict[str, nn.Parameter], found: dict[str, Tensor]) -> None:
    missing = sorted(needed.keys() - found.keys())
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} of the {len(needed)} parameters of the head: {_some(missing)}. "
            "Was it saved by another model, or with another `sam`, `mask_head` or `keywords` setting? A selector for a "
            "head without one is trained by `flmm train CONFIG --only keywords --cfg-options load_from=HEAD`"
        )
    wrong = [
        f"{name}: file {tuple(found[name].shape)}, model {tuple(parameter.shape)}"
        for name, parameter in needed.items()
        if found[name].shape != parameter.shape
    ]
    if wrong:
        raise ValueError(
            f"{path} was trained for another backbone or head; {len(wrong)} of {len(needed)} shapes differ: "
            f"{_some(wrong)}. "
            "Use the config it was trained with."
        )
    unusable = [f"{name} {problem}" for name in needed if (problem := tensor_problem(found[name]))]
    if unusable:
        raise ValueError(
            f"{path} holds {len(unusable)} parameters that are no weights: {_some(unusable, 1)}. Use an earlier "
            "checkpoint, or one that was saved in floating point"
        )


def _some(names: list[str], count: int = 5) -> str:
    return "; ".join(names[:count]) + (f"; and {len(names) - count} more" if len(names) > count else "")


def read_head(path: str | os.PathLike) -> dict[str, Tensor]:
    """Reads the parameters in a checkpoint of any kind that :func:`load_head` takes, on the CPU."""
    path = head_file(path)
    if path.is_dir():
        return _read_deepspeed(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _parameters(read_checkpoint(path), path)


def _parameters(content: dict[str, Any], path: str | os.PathLike) -> dict[str, Tensor]:
    """Take the parameters out of what a torch file holds."""
    state = unwrapped(content)
    if not state or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise ValueError(f"{path} holds no parameters: expected a state dict, or a dict with the key `state_dict`")
    return state


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a torch file on the CPU without running code from it.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is truncated, no torch file, or holds more than tensors and plain values.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        size = f"{os.path.getsize(path):,} bytes"
        if fault := no_torch_file(path):
            raise ValueError(f"{path} ({size}) is no checkpoint: {fault}. Name one, or copy it again") from error
        raise ValueError(
            f"cannot read checkpoint {path} ({size}): {_reason(error)}. "
            "It is truncated or holds objects other than tensors and plain values: copy it again, "
            "or save only its state dict."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not named parameters: save a state dict")
    return content


def _reason(error: Exception) -> str:
    """The first line of an error, without torch's advice around it to read the file all the same."""
    paragraphs = str(error).split("\n\n")
    said = paragraphs[-2] if str(error).startswith("Weights only load failed") and paragraphs[1:] else str(error)
    said = said.partition("WeightsUnpickler error:")[2] or said
    return (said.strip().splitlines() or [type(error).__name__])[0].partition(" Please use")[0].rstrip(".")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"cannot read checkpoint {path} ({path.stat().st_size:,} bytes): {error}") from error


def _read_deepspeed(path: Path) -> dict[str, Tensor]:
    """Joins the float32 partitions of all processes; the bf16 copies beside them have lost precision.

    DeepSpeed's own reader runs whatever code the files hold; its functions are given what was read without.
    """
    if not list(path.glob("*_optim_states.pt")):
        raise ValueError(
            f"{path} is a folder without *_optim_states.pt or {WEIGHTS}, so it is no checkpoint; something in it may be"
        )
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils import zero_to_fp32
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([ZeroStageEnum, LossScaler, DynamicLossScaler, fragment_address]):
        parts = [read_checkpoint(file)["optimizer_state_dict"] for file in zero_to_fp32.get_optim_files(path)]
    states = [_model_state(read_checkpoint(file)) for file in zero_to_fp32.get_model_state_files(path)]
    if (count := int(np.max(parts[0]["partition_count"]))) != len(parts):
        raise ValueError(
            f"{path} holds the parts of {len(parts)} of {count} processes: copy the missing *_optim_states.pt"
        )
    if parts[0]["zero_stage"] == ZeroStageEnum.weights:
        key, join = "fp32_flat_groups", zero_to_fp32._get_fp32_state_dict_from_zero3_checkpoint
    else:
        key, join = "single_partition_of_fp32_groups", zero_to_fp32._get_fp32_state_dict_from_zero2_checkpoint
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        joined = join(count, [part[key] for part in parts], states, exclude_frozen_parameters=True)
        return dict(zero_to_fp32.to_torch_tensor(joined))


def _model_state(content: dict[str, Any]) -> Any:
    """What DeepSpeed's functions want to know of a *_model_states.pt."""
    from deepspeed.utils.zero_to_fp32 import zero_model_state

    return zero_model_state(
        buffers={name: value.float() for name, value in content["module"].items() if name in content["buffer_names"]},
        param_shapes=content["param_shapes"],
        shared_params=list(content["shared_params"].items()),
        ds_version=content["ds_version"],
        frozen_param_shapes=None,
        frozen_param_fragments=None,
    )


def read_meta(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the `meta` entry (iteration, config, ...) of a torch file or a DeepSpeed folder; {} if it has none."""
    path = Path(path)
    if path.is_dir():
        states = [path / name for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")]
        path = states[1] if states[1].exists() else states[0]  # ZeRO-3 writes one for each process
    return read_checkpoint(path).get("meta", {})


def save_atomically(content: Any, path: str | os.PathLike) -> None:
    """Writes a torch file under a temporary name, then renames it: readers see the old file or the new one.

    Raises:
        OSError: When it cannot be written (a full disk, say); what was at `path` before is still there.
    """
    part = part_name(path)
    _sweep(part.parent)
    try:
        torch.save(content, part)
        publish(part, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its zip writer
        part.unlink(missing_ok=True)
        raise OSError(
            f"could not save {path}: {error}. Earlier checkpoints are untouched; make room, then resume"
        ) from error


def part_name(path: str | os.PathLike) -> Path:
    """Temporary name of a file or folder while it is being written.

    All processes of a run have the same one, as they write a DeepSpeed folder together; other runs have others.
    """
    path, run = Path(path), f"{platform.node()}-{os.getpid()}"
    if get_world_size() > 1:
        run = _get_default_store().compare_set("flmm.checkpoint", "", run).decode()  # that of the first to come
    return path.with_name(f".{path.name}.{run}.part")


def _sweep(folder: Path) -> None:
    """Removes what killed runs left of their checkpoints: to write one takes no hour."""
    for part in folder.glob(".*.pth.*-*.part"):
        with contextlib.suppress(OSError):  # it may be another user's, or another process sweeps too
            if time.time() - part.stat().st_mtime > 3600:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def publish(part: Path, path: str | os.PathLike) -> None:
    """Gives a completely written file or folder its name, after its bytes have reached the disk.

    Raises:
        OSError: When a file is to replace a folder: what is in that would be lost.
    """
    path = Path(path)
    if part.is_dir():
        _sweep(part.parent)
    for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    if not (part.is_dir() and path.is_dir()):
        os.replace(part, path)
        return
    old = path.with_name(f".{path.name}.old")  # a folder cannot be replaced in one step
    os.replace(path, old)
    os.replace(part, path)
    shutil.rmtree(old)


def latest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The newest complete checkpoint of a run: what `last_checkpoint` names, else the youngest in the folder."""
    folder = Path(work_dir)
    note = folder / "last_checkpoint"
    named = note.read_text().strip() if note.is_file() else ""
    if named and Path(named).exists():
        return named
    complete = [*folder.glob("iter_*.pth"), *folder.glob("epoch_*.pth")]
    return str(max(complete, key=lambda path: path.stat().st_mtime)) if complete else None
