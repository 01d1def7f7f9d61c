"""A resolved config as plain data, which a checkpoint carries and JSON holds; reading it runs nothing that it says.

It has what use and evaluation need: `model`, how samples are read, and whether empty masks count. A class, a
function or a dtype becomes its full name: as text where the key is `type`, else as ``{"$name": "torch.bfloat16"}``.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flmm.config import data_root, evaluation_settings
from flmm.paths import PATHS, ROOT, find_again

NAME = "$name"
FURTHER = ("visual_cot",)  # what `CotPrompts.from_config` reads
# Where the classes and functions live that a checkpoint may name; of all others only `from_pretrained` of transformers.
HOMES = (
    "flmm.models.",
    "flmm.datasets.sample",
    *(f"flmm.datasets.{lmm}_processors" for lmm in ("hf", "hpt", "llava", "llava_next", "qwen")),
    "flmm.datasets.pad2square_processor",
    *(f"{package}." for package in ("llava", "mgm", "deepseek_vl", "hpt", "segment_anything")),
    "mmdet.models.",
    "mmseg.models.",
    "torch.nn.",
    "transformers.BitsAndBytesConfig",
    "transformers.utils.quantization_config",
)


def to_data(config: Any) -> dict[str, Any]:
    """Write what use and evaluation need of a config as data for JSON.

    Args:
        config: An mmengine Config.

    Returns:
        Keyword arguments of the model under `model`, those of `SampleBuilder`, `allow_empty_masks`, `data_root`, and
        `visual_cot` if there is one.

    Raises:
        ValueError: When a value is no data, such as a lambda; names its key.
    """
    used = {"model": config.model, **evaluation_settings(config), "data_root": data_root(config)}
    return _data(used | {key: config[key] for key in FURTHER if key in config}, "")


def _data(value: Any, place: str, key: str = "") -> Any:
    """One value as data; `place` is its full key, `key` the last part."""
    if isinstance(value, dict):
        where = f"{place}." if place else ""
        return {str(name): _data(dict.get(value, name), f"{where}{name}", name) for name in dict.keys(value)}
    if isinstance(value, list | tuple):
        return [_data(item, f"{place}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, Path) or (isinstance(value, str) and key in PATHS):
        return _portable(str(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    name = _name(value)
    if name is None or "<" in name:
        raise ValueError(f"config key `{place}` holds {value!r}, which no name stands for: import what you define")
    return name if key == "type" else {NAME: name}


def _name(value: Any) -> str | None:
    """The full name of a class, function, dtype or what a config imports late; None for what has none."""
    from mmengine.config.lazy import LazyAttr, LazyObject

    if isinstance(value, LazyAttr | LazyObject):
        return f"{value.module}.{value}"
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value)
    if inspect.ismethod(value) and inspect.isclass(value.__self__):
        return f"{_name(value.__self__)}.{value.__name__}"
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    return None


def _portable(path: str) -> str:
    """A path below the repository relative to it, another one that exists here absolute, a name of the hub as it is."""
    absolute = Path(path).expanduser().absolute()
    if absolute.is_relative_to(ROOT):
        return str(absolute.relative_to(ROOT))
    return str(absolute) if path and absolute.exists() else path


def from_data(data: Mapping[str, Any], folder: str | os.PathLike) -> Any:
    """Read data of :func:`to_data` as an mmengine Config for `build_model` and `sample_settings`.

    Args:
        data: As JSON gave it.
        folder: Where the data came from. A path that does not exist is looked for in the repository, then there.

    Raises:
        ValueError: When the data name anything but parts of models, or ask for code of a model repository to be run.
    """
    from mmengine import Config

    if not isinstance(data, Mapping) or not isinstance(data.get("model"), Mapping):
        raise ValueError(f"the config in {folder} has no `model`: name the config by its file")
    return Config(_settings(data, "", Path(folder)))


def _settings(value: Any, key: str, folder: Path) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {NAME}:
            return _named(str(value[NAME]))
        if value.get("trust_remote_code"):
            raise ValueError(
                "the config in this checkpoint asks to run code of a model repository (trust_remote_code): name the "
                "config file yourself if you trust it"
            )
        return {name: _settings(item, name, folder) for name, item in value.items()}
    if isinstance(value, list):
        return [_settings(item, "", folder) for item in value]
    if key == "type":
        return _named(str(value))
    return find_again(value, folder) if key in PATHS and isinstance(value, str) else value


def _named(name: str) -> Any:
    """What a name stands for, as a late import of mmengine, so that a config of it says the same as its file.

    Raises:
        ValueError: When it stands for nothing, or for something that is no part of a model.
    """
    from mmengine.config.lazy import LazyAttr, LazyObject

    if "." not in name and importlib.util.find_spec(name) is None:
        return name  # of a registry: "GN"
    loads = name.startswith("transformers.") and name.endswith(".from_pretrained")
    module, *attributes = _split(name) if loads or name.startswith((*HOMES, "torch.")) else [name]
    value: Any = LazyObject(module, attributes[0]) if attributes else None
    for attribute in attributes[1:]:
        value = LazyAttr(attribute, value)
    if value is None or not _is_part(attributes, value):
        raise ValueError(
            f"the config in this checkpoint names {name}, which is no model, processor or layer that F-LMM knows: name "
            "the config file yourself if you trust it"
        )
    return value


def _split(name: str) -> list[str]:
    """The module of a full name, and the attributes that lead on from there."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            if importlib.util.find_spec(".".join(parts[:end])) is not None:
                return [".".join(parts[:end]), *parts[end:]]
        except ModuleNotFoundError:
            continue
    return [name]


def _is_part(attributes: list[str], late: Any) -> bool:
    """Whether a name is a dtype, a class or function of :data:`HOMES`, or `from_pretrained` of a class."""
    import torch

    try:
        value = late.build()
    except ImportError:
        return False
    if isinstance(value, torch.dtype):
        return True
    if len(attributes) == 2 and attributes[1] == "from_pretrained" and inspect.ismethod(value):
        return str(value.__self__.__module__).startswith((*HOMES, "transformers."))
    known = inspect.isclass(value) or inspect.isfunction(value)
    return len(attributes) == 1 and known and value.__module__.startswith(HOMES)
