"""Where a command writes: the folder is made, and nothing that the command reads is written over."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

AnyPath = str | os.PathLike


def apart(outputs: Iterable[AnyPath], inputs: Iterable[AnyPath]) -> None:
    """Check that no output is an input, by whatever name, and that no two outputs are one.

    Args:
        outputs: Files or folders to write.
        inputs: Files or folders that are read.

    Raises:
        ValueError: When it is so; it names both.
    """
    outputs = list(outputs)
    places = [os.path.realpath(out) for out in outputs]
    if twice := [out for out, place in zip(outputs, places, strict=True) if places.count(place) > 1]:
        raise ValueError(f"two results would be written as {twice[0]}: give each another name")
    read = {_identity(one): one for one in inputs if os.path.exists(one)}
    for out in outputs:
        if os.path.exists(out) and (same := read.get(_identity(out))):
            raise ValueError(f"cannot write {out}: it is what is read as {same}; choose another name for the results")


def _identity(path: AnyPath) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def writable(path: AnyPath, *inputs: AnyPath) -> Path:
    """Return a path for a picture, its folder made.

    Args:
        path: Of the picture.
        *inputs: What is read, as in `apart`.

    Raises:
        ValueError: When its ending is no format that PIL writes, or as in `in_folder`.
    """
    from PIL import Image

    path = Path(path)
    try:  # of some formats PIL only knows the name, others take no colours
        Image.new("RGB", (1, 1)).save(io.BytesIO(), Image.registered_extensions()[path.suffix.lower()])
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"cannot write a picture to {path}: end it in .png or .jpg") from error
    return in_folder(path, *inputs)


def in_folder(path: AnyPath, *inputs: AnyPath) -> Path:
    """Return a path for a file, its folder made.

    Args:
        path: Of the file.
        *inputs: What is read, as in `apart`.

    Raises:
        ValueError: When that folder cannot be made or written, or the file is an input.
    """
    apart([path], inputs)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {path}: no folder {path.parent} ({error}); choose another one") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: it is a folder, or {path.parent} is read-only; choose another name")
    return path
