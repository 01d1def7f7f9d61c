"""Digests of all that a result depends on: values, and the weights, settings and code of a module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from xxhash import xxh3_128

READ_AT_MOST = 64 * 2**20  # bytes of a file whose content is read; reading an LMM's weights would take minutes
PLAIN = (str, bytes, int, float, complex, torch.dtype, torch.device, type(None))
# These have no part in what a module computes: where it came from, how it talks, accelerate's way to move its inputs.
NO_SETTINGS = {"training", "name_or_path", "_name_or_path", "generation_config", "forward"}


def digest(*values: Any) -> str:
    """Return the digest of plain values, arrays, tensors, pictures, and of sequences and mappings of them.

    Raises:
        ValueError: When there is something else among them; says where.
    """
    state = xxh3_128()
    _feed(state, values, "value")
    return state.hexdigest()


def _feed(state: Any, value: Any, place: str) -> None:
    """Add a value; every part begins with its kind and size, so that no two values give the same bytes."""
    if isinstance(value, PLAIN):
        state.update(repr((type(value).__name__, value)).encode())
    elif isinstance(value, Tensor):
        state.update(repr(("tensor", value.dtype, tuple(value.shape))).encode())
        state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        state.update(repr(("array", value.dtype.str, value.shape)).encode())
        state.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, Image.Image):
        state.update(repr(("picture", value.mode, value.size, value.getpalette())).encode())
        state.update(value.tobytes())
    elif isinstance(value, Mapping):
        state.update(repr(("mapping", len(value))).encode())
        for key in sorted(value, key=repr):
            _feed(state, key, place)
            _feed(state, value[key], f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        state.update(repr(("sequence", len(value))).encode())
        for index, item in enumerate(value):
            _feed(state, item, f"{place}[{index}]")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise ValueError(f"{place} is a {kind}: only values, arrays, tensors and pictures can be told apart by content")


def file_digest(path: str | Path) -> str:
    """Return the digest of a file's content."""
    state = xxh3_128()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            state.update(block)
    return state.hexdigest()


def path_digest(path: str | Path) -> str:
    """Digest of a file or of all files in a folder: their names, and content or, where huge, size and time."""
    path = Path(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return digest([[str(file.relative_to(path)), _state_of(file)] for file in files])


def _state_of(file: Path) -> Any:
    status = file.stat()
    return file_digest(file) if status.st_size <= READ_AT_MOST else [status.st_size, status.st_mtime_ns]


def listing_digest(folder: str | Path) -> str:
    """Return the digest of names, sizes and times of the files in a folder of pictures."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return digest(sorted([name, status.st_size, status.st_mtime_ns] for name, status in found))


def arithmetic(device: torch.device) -> list[Any]:
    """What decides how results are rounded on a device at this moment, and how pictures are resized."""
    autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return [name, autocast, *tf32, str(torch.__version__), transformers.__version__, PIL.__version__]


class Fingerprint:
    """The digest of a module, taken when first asked for, and again when its parameters have changed.

    Args:
        module: A frozen module. Parameters count as changed when torch has seen them replaced or written to.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self._state: list[tuple[int, int]] = []
        self._digest = ""

    def __call__(self) -> str:
        """Return the digest."""
        state = [(value.data_ptr(), value._version) for value in self.module.parameters()]
        if not self._digest or state != self._state:
            self._state, self._digest = state, module_digest(self.module)
        return self._digest


def module_digest(module: nn.Module) -> str:
    """Return the digest of weights, settings and source code of a module and all its parts.

    Raises:
        ValueError: When a weight is not in memory, or a setting cannot be told apart by content.
    """
    weights = {**dict(module.named_buffers()), **module.state_dict()}  # buffers that are not saved count as well
    if absent := [name for name, value in weights.items() if isinstance(value, Tensor) and value.is_meta]:
        raise ValueError(f"{absent[0]} is not in memory, so it cannot be a key of a cache: load without offloading")
    settings = {name: _settings(part, name) for name, part in module.named_modules()}
    return digest(weights, settings, source_digest(base for part in module.modules() for base in type(part).__mro__))


def source_digest(items: Iterable[Any]) -> str:
    """Return the digest of the code of classes or functions: their files, and the packages around them.

    A package with a version is known by that. Of one without, as the model packages of this repository are, all files
    count, as those of the classes call functions in others.
    """
    names = {item.__module__ for item in items} & set(sys.modules)
    packages = [sys.modules[name] for name in {name.partition(".")[0] for name in names} & set(sys.modules)]
    versions = {package.__name__: str(package.__version__) for package in packages if hasattr(package, "__version__")}
    folders = [folder for p in packages if p.__name__ not in versions for folder in getattr(p, "__path__", [])]
    files = {Path(file) for name in names if (file := getattr(sys.modules[name], "__file__", None))}
    files.update(file for folder in folders for file in Path(folder).rglob("*.py"))
    return digest(versions, sorted(file.read_bytes() for file in files))


def _settings(part: nn.Module, name: str) -> dict[str, Any]:
    """Return the attributes of a module that are neither parameters nor parts."""
    public = {key: value for key, value in vars(part).items() if not key.startswith("_") and key not in NO_SETTINGS}
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    compiled = part._compiled_call_impl is not None  # rounds otherwise
    return {"type": kind, "compiled": compiled} | {k: _described(v, f"{name}.{k}") for k, v in public.items()}


def _described(value: Any, place: str) -> Any:
    """Return a setting as something that `digest` takes."""
    if isinstance(value, (*PLAIN, Tensor)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _described(item, place) for key, item in value.items() if key not in NO_SETTINGS}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [_described(item, place) for item in items]
    if isinstance(value, transformers.PretrainedConfig):
        return [_described(value.to_dict(), place), value._attn_implementation]
    if isinstance(value, partial):
        return [_described(item, place) for item in (value.func, value.args, value.keywords)]
    if isinstance(value, FunctionType | BuiltinFunctionType | type) and "<" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "__dict__") and not isinstance(value, FunctionType | nn.Module):
        return [type(value).__qualname__, source_digest([type(value)]), _described(vars(value), place)]
    raise ValueError(f"{place} is {value!r}, which cannot be part of a cache's key: make it an object of a class")
