"""What the results of an evaluation depend on, as digests that a folder of records is bound to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flmm.head_folder import head_file
from flmm.training.fingerprint import digest, file_digest, listing_digest, path_digest

NAMING = ("pretrained_model_name_or_path", "checkpoint", "pretrained")


def model_identity(config: Mapping[str, Any], reading: Mapping[str, Any], head: str | Path | None) -> dict[str, str]:
    """Digests of a model and of how its samples are made.

    Args:
        config: The model's part of a config, as a plain dict.
        reading: How samples are made.
        head: The trained head, if any: its file, its folder or its name on the hub.

    Returns:
        `model`, `reading`, `weights`, and for each file, folder or hub repository that they name one entry.
    """
    named = {f"file {name}": found for name in sorted(set(_named(config, reading))) if (found := _state(name))}
    weights = "none" if head is None else _weights(head_file(head))
    return {"model": digest(repr(config)), "reading": digest(repr(reading)), "weights": weights, **named}


def _weights(head: Path) -> str:
    return file_digest(head) if head.is_file() else path_digest(head)


def data_identity(files: tuple[Path, ...], folders: tuple[Path, ...]) -> dict[str, Any]:
    """Digests of annotation files, and of the names, sizes and times of pictures and segment maps."""
    pictures = [listing_digest(folder) if folder.is_dir() else "none" for folder in folders]
    return {"annotations": [file_digest(file) for file in files], "pictures": pictures}


def _named(*nodes: Any, key: str = "") -> Iterator[str]:
    """Texts inside settings that may name a file, a folder or a hub repository."""
    for node in nodes:
        if isinstance(node, Mapping):
            for name, value in node.items():
                yield from _named(value, key=name)
        elif isinstance(node, list | tuple):
            yield from _named(*node, key=key)
        elif isinstance(node, str) and "\n" not in node and (key in NAMING or "/" in node):
            yield node


def _state(name: str) -> str:
    """Return the digest of a file or folder, the commit of a hub repository, or nothing for what is neither."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        if name and Path(name).exists():
            return path_digest(name)
    except OSError:  # too long for a name
        return ""
    cached = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"))
    return " ".join(sorted(file.read_text() for file in cached.glob("refs/*") if file.is_file()))
