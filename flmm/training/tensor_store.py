"""Tensors on disk by key, for several processes and runs at once.

A file is written under another name and then renamed, so whoever reads sees all of it or nothing.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

Entry = dict[str, Tensor]
GB = 10**9
ABANDONED = 3600.0  # seconds after which a file that is still being written belongs to a process that was killed


class TensorStore:
    """Entries of tensors in safetensors files.

    Args:
        folder: Where they lie; made when it does not exist.
        max_gb: Most that they take, in GB of 10^9 bytes. The processes of a run share out what is left of it at the
            start; two runs that fill a folder at the same time do not see what the other one adds.

    Attributes:
        found, computed: How many entries this process has read from disk, and computed.

    Raises:
        ValueError: When `folder` is a file or `max_gb` is not positive.
    """

    def __init__(self, folder: str | os.PathLike, max_gb: float):
        if max_gb <= 0:
            raise ValueError(f"cache max_gb={max_gb}: it must be more than 0; cache=None switches it off")
        self.folder, self.max_gb = Path(folder).absolute(), max_gb
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"cache folder {folder} is a file: name a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.found = self.computed = 0
        self._left: float | None = None  # bytes that this process may still write; counted at its first entry

    def through(self, keys: list[str], compute: Callable[[list[int]], list[Entry]]) -> list[Entry]:
        """Look entries up by their keys, and compute those that are missing, together.

        Args:
            keys: Digests of all that the entries depend on.
            compute: Takes the indices of missing keys and gives their entries.

        Returns:
            The entries in the order of the keys.
        """
        entries = {i: entry for i, key in enumerate(keys) if (entry := self.read(key)) is not None}
        missing = [i for i in range(len(keys)) if i not in entries]
        for index, entry in zip(missing, compute(missing) if missing else [], strict=True):
            self.write(keys[index], entry)
            entries[index] = entry
        self.found += len(keys) - len(missing)
        self.computed += len(missing)
        return [entries[i] for i in range(len(keys))]

    def path(self, key: str) -> Path:
        """Where an entry lies."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def read(self, key: str) -> Entry | None:
        """Return an entry, on the CPU, laid out in memory as it was; None when it is not there or damaged."""
        path = self.path(key)
        try:
            with safe_open(path, framework="pt") as file:
                note = file.metadata() or {}
                if note.get("key") != key:
                    raise SafetensorError(f"it holds the entry {note.get('key')}")
                orders = json.loads(note["orders"])
                return {name: _unordered(file.get_tensor(name), order) for name, order in orders.items()}
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            _warn(f"cache entry {path} cannot be used ({error}): it is computed again")
            with suppress(OSError):
                path.unlink()
            return None

    def write(self, key: str, entry: Entry) -> None:
        """Keep an entry, unless that would exceed the limit or the disk is full."""
        if self._left == 0 or self.path(key).exists():
            return
        orders = {name: _order(value) for name, value in entry.items()}
        tensors = {name: value.cpu().permute(orders[name]).contiguous() for name, value in entry.items()}
        content = save(tensors, {"key": key, "orders": json.dumps(orders)})
        if self._left is None:
            self._left = max(0, self.max_gb * GB - self._used()) / get_world_size()
            room = f"{self._left / GB:.3g} GB are left for this process"
            print_log(f"cache {self.folder}: {len(content) / 1e6:.3g} MB an entry, {room}", logger="current")
        if len(content) > self._left:
            self._stop(f"it has reached max_gb={self.max_gb:g}")
            return
        self._left -= len(content)
        self._put(self.path(key), content)

    def _put(self, path: Path, content: bytes) -> None:
        part = path.with_name(f".{path.name}.{uuid4().hex}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            part.write_bytes(content)
            os.replace(part, path)
        except OSError as error:  # a full disk ends writing, not the run
            part.unlink(missing_ok=True)
            self._stop(str(error))

    def _stop(self, reason: str) -> None:
        self._left = 0
        _warn(f"cache {self.folder} takes no more entries, those there are still read: {reason}")

    def _used(self) -> int:
        """Return the bytes in the folder, after removing what killed processes left behind."""
        for part in self.folder.glob("*/.*.part"):
            with suppress(OSError):  # another process was faster
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()
        return sum(file.stat().st_size for file in self.folder.glob("*/*.safetensors"))


def _order(tensor: Tensor) -> list[int]:
    """Return the dimensions as they lie in memory, outermost first."""
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def _unordered(tensor: Tensor, order: list[int]) -> Tensor:
    """Return a tensor whose dimensions were put in `order`, as it was.

    It is copied to memory of torch's own: kernels that look at alignment or layout round it as they did before.
    """
    return tensor.clone().permute([order.index(dim) for dim in range(tensor.ndim)])


def _warn(message: str) -> None:
    print_log(message, logger="current", level=logging.WARNING)
