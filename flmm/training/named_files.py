"""The data and weights that a config names, and whether they are there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flmm.config import with_key
from flmm.console import Finding, counted, cures
from flmm.hub import PREFIX, HubName, fetch
from flmm.paths import FILES, FOLDERS, WEIGHTS, children

BITS_CURE = "`python -m pip install bitsandbytes` (uv leaves it out inside the repository: see docs/training.md)"
SAM_CURE = "`flmm download sam_vit_l` (or sam_vit_b, sam_vit_h) fetches SAM's weights (checkpoints/README.md)"
DATA_CURE = "paths are relative to the folder you start in; `flmm data check` tells where missing data come from"


def files(config: Any) -> Iterator[Finding]:
    """Data, weights and checkpoints that the config names."""
    config = getattr(config, "_cfg_dict", config)  # a Config is no mapping
    for key, path in dict.fromkeys(named_paths(config)):
        there = path.is_dir() if key in FOLDERS else path.exists()
        yield Finding("ok" if there else "broken", key, str(path), "" if there else _cure(path))
    for named in sorted(set(named_weights(config))):
        yield weights(*named)
    quantized = any(node["quantization_config"] for node in with_key(config, "quantization_config"))
    if quantized and importlib.util.find_spec("bitsandbytes") is None:
        text = "bitsandbytes is not installed, and an LMM in 4 or 8 bits needs it"
        yield Finding("broken", "quantization_config", text, BITS_CURE)


def check_files(config: Any) -> None:
    """Check that the data and weights that a config names are here, or can be downloaded.

    Raises:
        FileNotFoundError: Names all that are missing, and where they come from; or the hub cannot be reached.
        ConnectionError: When a transfer broke.
    """
    missing = [finding for finding in files(config) if finding.state == "broken"]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        lines = [*(finding.text for finding in missing), *(f"- {cure}" for cure in cures(missing))]
        raise FileNotFoundError("\n  ".join([f"{counted(len(missing), 'thing')} {verb} missing:", *lines]))
    for named in sorted(set(named_weights(config))):
        check_weights(*named)


def _cure(path: Path) -> str:
    return SAM_CURE if path.name.startswith("sam_") else DATA_CURE


def named_paths(node: Any) -> Iterator[tuple[str, Path]]:
    """Keys and paths of the files and folders that a config names; a head of the hub (`hf://`) is none."""
    if isinstance(node, Mapping):
        named = ((key, node.get(key)) for key in (*FILES, *FOLDERS))
        yield from ((key, Path(path)) for key, path in named if isinstance(path, str) and not path.startswith(PREFIX))
        if "ann_file" in node:
            root = Path(node.get("data_root", ""))
            yield from ((key, root / node[key]) for key in ("ann_file", "split_file") if key in node)
            prefixes = node.get("data_prefix", {"img_path": node.get("image_folder", "train2014")})  # as in RESDataset
            yield from (("local_path", root / path) for path in prefixes.values())
    for child in children(node):
        yield from named_paths(child)


def named_weights(node: Any) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Arguments of :func:`weights` for each key of `WEIGHTS` in what a config builds."""
    if isinstance(node, Mapping):
        lmm, subfolder = (str(node.get(key) or "") for key in ("pretrained_model_name_or_path", "subfolder"))
        for key in [key for key in WEIGHTS if "type" in node and isinstance(node.get(key), str)]:
            inside = os.path.join(lmm, node[key])  # where MGM's towers may be
            yield inside if os.path.isdir(inside) else node[key], subfolder, WEIGHTS[key]
    for child in children(node):
        yield from named_weights(child)


def weights(name: str, subfolder: str = "", files: tuple[str, ...] = ("config.json",)) -> Finding:
    """The folder of an LMM or a part of it, or its name on the hub.

    Args:
        name: The folder or name.
        subfolder: Where in it.
        files: One of them is there when the repository is in the cache.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    place = os.path.join(name, subfolder) if subfolder else name
    if Path(place).is_dir():
        return Finding("ok", "weights", place)
    if name.count("/") != 1 or name.startswith((".", "/", "~", "checkpoints/")):
        return Finding("broken", "weights", f"{place} is no folder", "copy the LMM there, or name it as the hub does")
    if any(isinstance(try_to_load_from_cache(name, os.path.join(subfolder, file)), str) for file in files):
        return Finding("ok", "weights", f"{place} in {constants.HF_HUB_CACHE}")
    cure = f"`hf download {name}` before the run, on a machine with network, into the HF_HOME that all nodes share"
    if constants.HF_HUB_OFFLINE:
        return Finding("broken", "weights", f"{place} is not in {constants.HF_HUB_CACHE}, and the hub is off", cure)
    return Finding("note", "weights", f"{place} is not in {constants.HF_HUB_CACHE}: every node will download it", cure)


def check_weights(name: str, subfolder: str = "", files: tuple[str, ...] = ("config.json",)) -> None:
    """Check that an LMM or a part of it is here or can be downloaded; arguments as of `weights`.

    The hub is asked once, before transformers asks it for half a minute.

    Raises:
        FileNotFoundError: When it is neither here nor to be had.
        ConnectionError: When the transfer broke.
    """
    found = weights(name, subfolder, files)
    if found.state == "broken":
        raise FileNotFoundError(f"{found.text}: {found.cure}")
    if found.state == "note":
        fetch(HubName(name), allow=[os.path.join(subfolder, "*.json")])
