"""Find what a config names: relative to the current folder, else in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILES = ("json_file", "panoptic_json_file", "checkpoint", "pretrained", "load_from")
FOLDERS = ("panoptic_png_path", "local_path")
WEIGHTS = ("pretrained_model_name_or_path", "mm_vision_tower", "mm_vision_tower_aux")


def locate(path: str) -> str:
    """Return the path itself where it exists or is absolute, else the one in the repository if that exists."""
    if not path or Path(path).expanduser().exists() or not (ROOT / path).exists():
        return path
    return str(ROOT / path)


def locate_all(node: Any) -> None:
    """Replace in a config's dicts and lists, in place, paths that exist only in the repository."""
    if isinstance(node, dict):
        for key in (*FILES, *FOLDERS, *WEIGHTS, "data_root"):
            if isinstance(value := dict.get(node, key), str):
                node[key] = locate(value)
        node = list(dict.values(node))  # as they are: a ConfigDict's own methods import what is named lazily
    if isinstance(node, list | tuple):
        for child in node:
            locate_all(child)
