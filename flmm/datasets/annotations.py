"""Reading annotation files of hundreds of megabytes: only what is asked for becomes Python objects."""

import gc
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from mmengine.fileio import get

CURE = "see docs/data.md for the sources, and run `flmm data check`"

Item = TypeVar("Item")


class CocoImage(msgspec.Struct, gc=False):
    """An image, as every COCO annotation file lists them; sizes in pixels."""

    id: int
    file_name: str
    height: int
    width: int


class PackedList(Sequence[Item], Generic[Item]):
    """A read-only list that keeps its items encoded in one buffer.

    134,272 captions as Python objects take many times the memory, once more in every worker, because reading an
    object writes its reference count.

    Args:
        items: What the list holds; taken one at a time.
        kind: Type of an item, as msgspec understands it.
    """

    def __init__(self, items: Iterable[Item], kind: Any) -> None:
        self._kind = kind
        self._buffer = bytearray()
        encode, ends = msgspec.msgpack.Encoder().encode, []
        for item in items:
            self._buffer += encode(item)
            ends.append(len(self._buffer))
        self._ends = np.asarray(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        start = self._ends[index - 1] if index else 0
        return msgspec.msgpack.decode(memoryview(self._buffer)[start : self._ends[index]], type=self._kind)


@contextmanager
def no_collection() -> Iterator[None]:
    """Reading annotations makes many objects, none in a cycle; collecting them doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def decode_file(path: str | Path, decoder: msgspec.json.Decoder) -> Any:
    """A JSON file as the type of a decoder; entries that the type does not name are skipped, not built.

    A local file is mapped, not read: `msgspec.Raw` entries of the type are windows into it, decoded when needed.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not JSON, cut, or of another format.
    """
    try:
        content = _mapped(path) if os.path.isfile(path) else get(str(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no annotation file {path}: {CURE}") from error
    return decode(content, decoder, path)


def decode(content: Any, decoder: msgspec.json.Decoder, source: str | Path) -> Any:
    """A piece of JSON as the type of a decoder; ValueError names the source."""
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise ValueError(f"{source} has another format than it should: {error}; {CURE}") from error
    except msgspec.DecodeError as error:
        raise ValueError(f"{source} is not complete JSON ({error}): fetch it again; {CURE}") from error


def _mapped(path: str | Path) -> Any:
    with open(path, "rb") as file:
        empty = os.fstat(file.fileno()).st_size == 0  # which cannot be mapped
        return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
