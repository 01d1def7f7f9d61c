"""Find what a config names: relative to the current folder, else in the repository."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILES = ("json_file", "panoptic_json_file", "checkpoint", "pretrained", "load_from")
FOLDERS = ("panoptic_png_path", "local_path")
# Keys that name weights, and files of which one is there when they are in the hub's cache (mgm/model/checkpoint.py).
WEIGHTS = {
    "pretrained_model_name_or_path": ("config.json",),
    "mm_vision_tower": ("config.json",),
    "mm_vision_tower_aux": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
PATHS = (*FILES, *FOLDERS, *WEIGHTS, "data_root")


def locate(path: str) -> str:
    """Return the path itself where it exists or is absolute, else the one in the repository if that exists."""
    if not path or Path(path).expanduser().exists() or not (ROOT / path).exists():
        return path
    return str(ROOT / path)


def find_again(path: str, folder: Path) -> str:
    """Find a path that was written on another machine.

    Args:
        path: A path, or a name of the hub, which is left as it is.
        folder: Where the file lies that names it.

    Returns:
        The path that exists: itself, in the repository, below `folder`, or an absolute one's last part in `folder` or
        in ``checkpoints/``. Else the path itself.
    """
    name = Path(path).name if Path(path).is_absolute() else path
    places = [Path(locate(path)), folder / name, ROOT / "checkpoints" / name]
    return str(next((place for place in places if place.exists()), path))


def locate_all(node: Any) -> None:
    """Replace in a config's dicts and lists, in place, paths that exist only in the repository."""
    if isinstance(node, dict):
        for key in PATHS:
            if isinstance(value := dict.get(node, key), str):
                node[key] = locate(value)
    for child in children(node):
        locate_all(child)


def children(node: Any) -> Iterable[Any]:
    """Give what a dict or a list of a config holds; the classes that it names are not imported."""
    if isinstance(node, dict):
        return list(dict.values(node))  # a ConfigDict's own methods import them
    return node if isinstance(node, list | tuple) else ()
