"""Loading released weights, and saying what was loaded: the same few steps for every model package."""

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
Rename = Callable[[str], str | None]


def find_folder(name_or_path: str | Path, subfolder: str = "") -> Path:
    """Folder of a model: a local one, or the hub's repository of that name (downloaded when it is not cached).

    Args:
        name_or_path: Local folder, or `owner/name` on the hub.
        subfolder: Folder inside it that holds the model.

    Raises:
        FileNotFoundError: When there is no such folder, neither here nor on the hub.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        folder = _download(str(name_or_path), subfolder)
    if not (folder / subfolder).is_dir():
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"{folder} has no sub-folder {subfolder!r} (it has {found}): the model's repository must be complete"
        )
    return folder / subfolder


def _download(name: str, subfolder: str) -> Path:
    from huggingface_hub import snapshot_download  # needs the network only here
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=f"{subfolder}/*" if subfolder else None))
    except (HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"{name}: neither a local folder nor a repository that could be downloaded from the hub ({error})"
        ) from error


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Reads all tensors of a model folder, in any layout that `save_pretrained` ever wrote.

    Args:
        folder: Holds `model.safetensors` or `pytorch_model.bin`, whole or sharded with `*.index.json`.

    Raises:
        FileNotFoundError: When there is no weight file, or a shard that the index names is not there.
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
    if path.suffix == ".safetensors":
        return load_file(path)
    mmap = zipfile.is_zipfile(path)  # files written before torch 1.6 cannot be mapped
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def load_into(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    rename: Rename | None = None,
    ignore: Iterable[str] = (),
    name: str = "",
) -> None:
    """Copies `weights` into `model`, prints one line about it, and refuses when the model stays incomplete.

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
    wrong = [
        f"{key} is {list(value.shape)}, needed {list(own[key].shape)}"
        for key, value in renamed.items()
        if key in own and value.shape != own[key].shape
    ]
    if wrong:
        raise ValueError(f"{name}: {len(wrong)} tensors have another shape than config.json says, e.g. {wrong[:3]}")
    keys = model.load_state_dict(renamed, strict=False)
    info = {"missing_keys": keys.missing_keys, "unexpected_keys": keys.unexpected_keys}
    check_loading_info(name, info, total=len(own), ignore=ignore)


def check_loading_info(
    name: str, info: Mapping[str, Any], total: int | None = None, ignore: Iterable[str] = ()
) -> None:
    """Prints what was loaded, and refuses when weights are missing.

    Args:
        name: What the messages call the model.
        info: With `missing_keys` and `unexpected_keys`; what transformers returns for `output_loading_info=True`.
        total: Number of tensors of the model, when known.
        ignore: Prefixes of names that may be missing.

    Raises:
        ValueError: When a tensor of the model got no value.
    """
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


class CheckedLoading:
    """Put before a transformers model class: its `from_pretrained` reports, and refuses missing weights."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """As in transformers (which also passes `device_map`, `quantization_config`, ... here).

        Raises:
            FileNotFoundError: When a local folder has no such `subfolder`.
            ValueError: When weights are missing; transformers itself only warns, and leaves them random.
        """
        name, subfolder = pretrained_model_name_or_path, kwargs.get("subfolder", "")
        if Path(name).is_dir():
            find_folder(name, subfolder)
        model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        where = f"{name}/{subfolder}" if subfolder else name
        check_loading_info(f"{cls.__name__} from {where}", info, total=len(model.state_dict()))
        return (model, info) if output_loading_info else model
