"""Load released weights and report what was loaded, with the same steps for every model package."""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
# Makes transformers say what does not fit, for `check_loading_info`, instead of leaving it random or giving up.
LOADING = {"output_loading_info": True, "ignore_mismatched_sizes": True}
Rename = Callable[[str], str | None]
_WHERE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def where_in(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `from_pretrained` that say which repository is meant."""
    return {key: kwargs[key] for key in _WHERE if key in kwargs}


def find_folder(name_or_path: str | Path, subfolder: str = "", **where: Any) -> Path:
    """Return the folder of a model: a local one, or the hub's repository of that name (downloaded when not cached).

    Args:
        name_or_path: Local folder, or `owner/name` on the hub.
        subfolder: Folder inside it that holds the model.
        **where: Of `from_pretrained`: revision, token, cache_dir, ...

    Raises:
        FileNotFoundError: When there is no such folder, neither here nor on the hub.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        folder = _download(str(name_or_path), subfolder, where)
    if not (folder / subfolder).is_dir():
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"{folder} has no sub-folder {subfolder!r} (it has {found}): the model's repository must be complete"
        )
    return folder / subfolder


def _download(name: str, subfolder: str, where: Mapping[str, Any]) -> Path:
    from huggingface_hub import snapshot_download  # needs the network only here

    try:
        return Path(snapshot_download(name, allow_patterns=f"{subfolder}/*" if subfolder else None, **where))
    except (HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"{name}: neither a local folder nor a repository that could be downloaded from the hub ({error})"
        ) from error


def repository_config(name_or_path: str | Path, model_type: str | None = None, **where: Any) -> dict[str, Any]:
    """Read the config.json of a folder or hub repository.

    Args:
        name_or_path: Local folder, or `owner/name` on the hub.
        model_type: What it, or one of its parts, must describe; None for anything.
        **where: Of `from_pretrained`: subfolder, revision, token, ...

    Raises:
        FileNotFoundError: When there is none; transformers would go on with the sizes of some released model.
        ValueError: When it describes another model.
    """
    name = Path(name_or_path, where.get("subfolder", ""))
    with named_files(name):
        config, _ = PretrainedConfig.get_config_dict(name_or_path, **where)
        if not config:
            raise OSError("there is no config.json.")
    parts = [part for part in (config, *config.values()) if isinstance(part, dict)]
    found = [part["model_type"] for part in parts if part.get("model_type")]
    if model_type and found and model_type not in found:
        raise ValueError(
            f"{name} holds a {found[0]!r}, but a {model_type!r} is needed: name a repository of that model, or use the "
            "config that was made for this one"
        )
    return config


@contextmanager
def named_files(name: str | Path) -> Iterator[None]:
    """Name the model and say what to do when transformers does not find a file."""
    try:
        yield
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(
            f"{name}: {error} Give a complete local folder (config.json, weights, and the .py files that config.json "
            "may name), or a repository of the hub while there is a network"
        ) from error


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a model folder, in any layout that `save_pretrained` ever wrote.

    Args:
        folder: Holds `model.safetensors` or `pytorch_model.bin`, whole or sharded with `*.index.json`.

    Raises:
        FileNotFoundError: When there is no weight file, or a shard that the index names is not there.
        ValueError: When a file cannot be read.
    """
    folder = Path(folder)
    for single in SINGLE_FILES:
        if (folder / single).is_file():
            return _read_file(folder / single)
        if (index := folder / f"{single}.index.json").is_file():
            return _read_shards(index)
    raise FileNotFoundError(
        f"{folder}: no weights; looked for {' and '.join(SINGLE_FILES)}, whole or with .index.json "
        "(is the download complete?)"
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
    shards = sorted(set(weight_map.values()))
    if absent := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise FileNotFoundError(
            f"{index} names {len(shards)} shards, {len(absent)} of them are missing: {absent}; download them again"
        )
    return {key: value for shard in shards for key, value in _read_file(index.parent / shard).items()}


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mmap = zipfile.is_zipfile(path)  # files written before torch 1.6 cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        with path.open("rb") as file:
            head = file.read(32)
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes, beginning with {head!r}) is no readable weight file: it is cut "
            "short, of another kind, or a pointer of git lfs; download it again"
        ) from error


def load_into(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    rename: Rename | None = None,
    ignore: Iterable[str] = (),
    name: str = "",
) -> None:
    """Copy `weights` into `model`, print one line about it, and refuse when the model stays incomplete.

    Args:
        model: Takes the values, in its own dtype and on its own device.
        weights: Tensors by their name in the file.
        rename: Maps a name in the file to the one in `model`; None as result drops the tensor.
        ignore: Prefixes of names in `model` that may stay as they are.
        name: What the messages call the model; its class by default.

    Raises:
        ValueError: When a tensor of the model has no value, or one of another shape.
    """
    name = name or type(model).__name__
    named = ((rename(key) if rename else key, value) for key, value in weights.items())
    renamed = {key: value for key, value in named if key is not None}
    own = model.state_dict()
    shapes = ((key, value.shape, own[key].shape) for key, value in renamed.items() if key in own)
    check_shapes(name, [(key, found, needed) for key, found, needed in shapes if found != needed])
    keys = model.load_state_dict(renamed, strict=False)
    info = {"missing_keys": keys.missing_keys, "unexpected_keys": keys.unexpected_keys}
    check_loading_info(name, info, total=len(own), ignore=ignore)


def check_shapes(name: str, wrong: Iterable[tuple[str, Any, Any]]) -> None:
    """Refuse weights of other shapes: (name, shape in the file, shape in the model) of each such tensor."""
    examples = [f"{key} is {list(found)}, needed {list(needed)}" for key, found, needed in sorted(wrong)]
    if examples:
        raise ValueError(
            f"{name}: {len(examples)} tensors have another shape than config.json says, e.g. {examples[:3]}: weights "
            "and config.json belong to different models, or different releases of one"
        )


def check_loading_info(
    name: str, info: Mapping[str, Any], total: int | None = None, ignore: Iterable[str] = ()
) -> None:
    """Print what was loaded, and refuse when weights are missing.

    Args:
        name: What the messages call the model.
        info: With `missing_keys`, `unexpected_keys` and perhaps `mismatched_keys` (of another shape, hence not loaded);
            what transformers returns for `output_loading_info=True` and `ignore_mismatched_sizes=True`.
        total: Number of tensors of the model, when known.
        ignore: Prefixes of names that may be missing.

    Raises:
        ValueError: When a tensor of the model got no value, or the file has one of another shape.
    """
    check_shapes(name, info.get("mismatched_keys", ()))
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(tuple(ignore)))
    unexpected = sorted(info["unexpected_keys"])
    loaded = f"loaded {total - len(info['missing_keys'])} of {total} tensors" if total else "loaded"
    print(f"{name}: {loaded}, {len(missing)} missing, {len(unexpected)} unexpected{_examples(unexpected)}", flush=True)
    if missing:
        raise ValueError(
            f"{name}: {len(missing)} tensors have no value in the weight files{_examples(missing)}; they would stay "
            "random. The download is incomplete, or the files belong to another model or another release of it"
        )


def _examples(keys: list[str], limit: int = 5) -> str:
    if not keys:
        return ""
    return f" ({', '.join(keys[:limit])}{', ...' if len(keys) > limit else ''})"


def inherit_renaming(model_class: type) -> None:
    """Let a subclass of a transformers model read all the names that tensors ever had there.

    transformers 5 keeps the older names by class and model type, and leaves classes of other packages out.

    Args:
        model_class: The subclass; an Auto class needs nothing.
    """
    base = next(parent for parent in model_class.__mro__ if parent.__module__.startswith("transformers."))
    config_class = getattr(base, "config_class", None)
    names = [base.__name__] + ([config_class.model_type] if config_class else [])
    known = (renaming for name in names if (renaming := get_checkpoint_conversion_mapping(name)) is not None)
    if (renaming := next(known, None)) is not None:
        register_checkpoint_conversion_mapping(model_class.__name__, renaming, overwrite=True)


class CheckedLoading:
    """Mixin before a transformers model class: `from_pretrained` reports, and refuses missing weights."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherit_renaming(cls)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Load as transformers does (which also passes `device_map`, `quantization_config`, ... here).

        Raises:
            FileNotFoundError: When a folder, its `subfolder`, or a file in it is not there.
            ValueError: When another model lies there, or weights are missing; transformers itself only warns, and
                leaves them random.
        """
        name, subfolder = pretrained_model_name_or_path, kwargs.get("subfolder", "")
        if "torch_dtype" in kwargs:  # the name in configs; transformers warns that its own is `dtype` now
            kwargs["dtype"] = kwargs.pop("torch_dtype")
        if isinstance(kwargs.get("dtype"), str):  # "torch.float32" in the config that a training writes beside its logs
            kwargs["dtype"] = kwargs["dtype"].removeprefix("torch.")
        where = f"{name}/{subfolder}" if subfolder else name
        if Path(name).is_dir():
            find_folder(name, subfolder)
        cls._check_config(name, kwargs)
        kwargs |= LOADING
        with named_files(where):
            model, info = super().from_pretrained(name, *args, **kwargs)  # type: ignore[misc]
        check_loading_info(f"{cls.__name__} from {where}", info, total=len(model.state_dict()))
        return (model, info) if output_loading_info else model

    @classmethod
    def _check_config(cls, name: str, kwargs: dict[str, Any]) -> None:
        config_class = getattr(cls, "config_class", None)  # an Auto class takes any
        if "config" not in kwargs:
            repository_config(name, config_class and config_class.model_type, **where_in(kwargs))
