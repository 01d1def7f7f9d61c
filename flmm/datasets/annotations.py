"""Reading annotation files of hundreds of megabytes: only what is asked for becomes Python objects."""

import gc
import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

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


def is_list_of(kind: Any, values: Any) -> bool:
    """Tell whether something read from JSON is a list that holds one kind, or union of kinds, only."""
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


class _HasId(Protocol):
    id: int


Identified = TypeVar("Identified", bound=_HasId)


def by_id(items: Iterable[Identified], what: str, source: str | Path) -> dict[int, Identified]:
    """Return items by their id; files that were merged carelessly hold different ones under one id.

    Raises:
        ValueError: When two items that differ have the same id.
    """
    found: dict[int, Identified] = {}
    for item in items:
        if (first := found.setdefault(item.id, item)) is not item and first != item:
            raise ValueError(
                f"{source} holds two different {what} with the id {item.id}, so nobody can tell which is meant: give "
                "each its own id"
            )
    return found


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


def share_with_workers() -> None:
    """Leave what this process holds out of garbage collection, before it forks the workers of a loader.

    A collection in a worker would mark every object of its parent, and marking a page copies it.
    """
    gc.collect()  # what is garbage now would stay for good
    gc.freeze()


def decode_file(path: str | Path, decoder: msgspec.json.Decoder) -> Any:
    """Return a JSON file as the type of a decoder; entries that the type does not name are skipped, not built.

    A local file is mapped, not read: `msgspec.Raw` entries of the type are windows into it, decoded when needed.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not JSON, cut, or of another format.
    """
    try:
        content = _mapped(path) if os.path.isfile(path) else get(str(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no annotation file {path}: {CURE}") from error
    except OSError as error:
        raise ValueError(f"annotation file {path} cannot be read ({error}): {CURE}") from error
    content = _utf8(content, path)
    try:
        return decode(content, decoder, path)
    except ValueError:
        if (without := _UNDEFINED.sub(_null, content)) == content:
            raise
        return decode(without, decoder, path)


# NaN and Infinity, which Python's json writes though JSON has no such numbers; strings are matched to be passed over.
_UNDEFINED = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b')


def _null(match: re.Match[bytes]) -> bytes:
    return match[0] if match[0].startswith(b'"') else b"null"


def _utf8(content: Any, source: str | Path) -> Any:
    """JSON without byte order mark, as UTF-8; a file that is so already is not copied."""
    encoding = json.detect_encoding(content[:4])
    if encoding == "utf-8":
        return content
    if encoding == "utf-8-sig":
        return memoryview(content)[3:]
    try:
        return bytes(content).decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} looks like {encoding} but is not ({error}): save it as UTF-8; {CURE}") from error


def decode(content: Any, decoder: msgspec.json.Decoder, source: str | Path) -> Any:
    """Return a piece of JSON as the type of a decoder; ValueError names the source."""
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise ValueError(f"{source} has another format than it should: {error}; {CURE}") from error
    except msgspec.DecodeError as error:
        cut = "truncated" in str(error)
        what = f"is not complete JSON ({error}): fetch it again" if cut else f"is no JSON ({error}): correct it"
        raise ValueError(f"{source} {what}; {CURE}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 ({error}): save it as UTF-8; {CURE}") from error


def _mapped(path: str | Path) -> Any:
    with open(path, "rb") as file:
        empty = os.fstat(file.fileno()).st_size == 0  # which cannot be mapped
        return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
