"""What a frozen model makes of a sample, kept on disk: computed in the first epoch, read in the others.

An entry is a safetensors file, named by a digest of all it depends on (`flmm.training.fingerprint`), so that nothing
outdated can be read. It is written under another name and then renamed: a reader sees all of it or nothing.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from flmm.models.backbone import Reading
from flmm.models.capture import capture
from flmm.models.functional import fold_rows
from flmm.models.mask_head.mask_refiner import Embedding
from flmm.models.packing import pack
from flmm.models.reader import Reader, Sample
from flmm.training.fingerprint import Fingerprint, arithmetic, digest, source_digest

Entry = dict[str, Tensor]
KINDS = ("lmm", "sam")
GB = 10**9
LEDGER_BYTES = 64  # two kinds of up to 10^18 bytes
ABANDONED = 3600.0  # seconds after which a file that is still being written belongs to a process that was killed
# Of a sample, all that no LMM may see; everything else is part of the key, as an adapter may read it.
UNSEEN = {"masks", "padded_masks", "gt_masks", "mask_infos", "file_name", "phrases"}


class TensorCache:
    """Entries of tensors on disk, for several processes and runs at once.

    Args:
        folder: Where they lie; made when it does not exist.
        max_gb: Most that they take together, in GB of 10^9 bytes. Then no more are written; those there are read.
        kinds: What is kept: 'lmm' what the LMM's attention and hidden states say, 'sam' SAM's image embeddings.

    Attributes:
        samples: How many samples an epoch has, if known: then the room needed is compared with the disk beforehand.
        found, computed: How many entries this process has read from disk, and computed, of each kind.

    Raises:
        ValueError: When `folder` is a file, `max_gb` is not positive, or a kind is unknown.
    """

    def __init__(self, folder: str | os.PathLike, max_gb: float, kinds: Sequence[str] = KINDS):
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise ValueError(f"cache kinds {unknown} are unknown: there are {', '.join(KINDS)}")
        if max_gb <= 0:
            raise ValueError(f"cache max_gb={max_gb}: it must be more than 0; cache=None switches it off")
        self.folder, self.max_bytes, self.kinds = Path(folder).absolute(), int(max_gb * GB), tuple(kinds)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"cache folder {folder} is a file: name a folder")
        self._parts.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.folder)
        self.samples: int | None = None
        self.found, self.computed = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
        self._announced: set[str] = set()
        self._stopped = False

    @property
    def _parts(self) -> Path:
        return self.folder / "parts"

    def reader(self, reader: Reader) -> Reader:
        """A reader that uses this cache, if it keeps what an LMM reads; else the same one."""
        return CachedReader(self, reader) if "lmm" in self.kinds else reader

    def encoder(self, sam: Any) -> Callable[[list[Image.Image]], list[Embedding]] | None:
        """SAMWrapper's `encode`, through this cache if it keeps what SAM encodes; None without SAM."""
        if sam is None:
            return None
        return CachedEncoder(self, sam) if "sam" in self.kinds else sam.encode

    def through(self, kind: str, keys: list[str], compute: Callable[[list[int]], list[Entry]]) -> list[Entry]:
        """Entries by their keys, from disk or else computed, those that are missing together.

        Args:
            kind: One of KINDS.
            keys: Digests.
            compute: Called with the indices of missing keys; gives their entries.

        Raises:
            ValueError: When the disk has no room for all entries of an epoch.
        """
        entries = {i: entry for i, key in enumerate(keys) if (entry := self.read(kind, key)) is not None}
        missing = [i for i in range(len(keys)) if i not in entries]
        for index, entry in zip(missing, compute(missing) if missing else [], strict=True):
            self.write(kind, keys[index], entry)
            entries[index] = entry
        self.found[kind] += len(keys) - len(missing)
        self.computed[kind] += len(missing)
        return [entries[i] for i in range(len(keys))]

    def path(self, kind: str, key: str) -> Path:
        """Where an entry lies."""
        return self.folder / kind / key[:2] / f"{key}.safetensors"

    def read(self, kind: str, key: str) -> Entry | None:
        """An entry, on the CPU, laid out in memory as it was; None when it is not there or damaged."""
        path = self.path(kind, key)
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
            _warn(f"cache entry {path} cannot be used ({error}): it is computed anew")
            with self._writing():
                self.ledger.add(kind, -_remove(path))
            return None

    def write(self, kind: str, key: str, entry: Entry) -> None:
        """Keeps an entry, unless that would exceed the limit or the disk is full."""
        path = self.path(kind, key)
        if self._stopped or path.exists():
            return
        orders = {name: _order(value) for name, value in entry.items()}
        tensors = {name: value.cpu().permute(orders[name]).contiguous() for name, value in entry.items()}
        content = save(tensors, {"key": key, "orders": json.dumps(orders)})
        with self._writing():
            self._prepare(kind, len(content))
            if self.ledger.add(kind, len(content), self.max_bytes):
                self._put(kind, path, content)
            else:
                self._stop(f"it has reached max_gb={self.max_bytes / GB:g}; {self.ledger.path} has the count")

    def _put(self, kind: str, path: Path, content: bytes) -> None:
        """Writes an entry that the ledger has counted; when that fails, its bytes are given back."""
        part = self._parts / f"{kind}-{len(content)}-{socket.gethostname()}-{uuid4().hex}"
        try:
            part.write_bytes(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, path)
        except OSError:
            _remove(part)  # first: killed in between, the cache counts too much, and `max_gb` still holds
            self.ledger.add(kind, -len(content))
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """An error of the disk in here ends writing, not the run."""
        try:
            yield
        except OSError as error:
            self._stop(str(error))

    def _stop(self, reason: str) -> None:
        self._stopped = True
        _warn(f"cache {self.folder} takes no more entries, those there are still read: {reason}")

    def _prepare(self, kind: str, size: int) -> None:
        """Before the first entry of a kind: clears up after killed processes, and says what room is needed."""
        if kind in self._announced:
            return
        self._announced.add(kind)
        self._clear_up()
        used, free = self.ledger.used(), shutil.disk_usage(self.folder).free
        left = self.max_bytes - sum(used.values())
        told = f"{size / 1e6:.3g} MB an entry; {free / GB:.3g} GB are free, max_gb={self.max_bytes / GB:g}"
        if self.samples is not None:
            needed = max(0, size * self.samples - used[kind])
            told += f"; for {self.samples} samples about {needed / GB:.3g} GB more"
            if min(needed, left) > free:
                raise ValueError(
                    f"cache {self.folder} has too little room on its disk for {kind}: {told}. Name a folder on "
                    "another disk, or a max_gb that fits"
                )
            if needed > left:
                told += f", of which {max(0, left) / needed:.0%} fit"
        print_log(f"cache {self.folder}, {kind}: {told}", logger="current")

    def _clear_up(self) -> None:
        """Removes what killed processes left behind."""
        for part in self._parts.glob("*-*-*"):
            kind, size, *_ = part.name.split("-")
            with suppress(FileNotFoundError):  # another process was faster
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()
                    self.ledger.add(kind, -int(size))


class Ledger:
    """How many bytes the entries of each kind take, as all processes count them: a file under a lock.

    It is overwritten in place and keeps its length, so the count outlives a full disk and a killed writer.

    Args:
        folder: That of the cache.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "ledger.json"

    def used(self) -> dict[str, int]:
        """Bytes by kind."""
        with self._open() as (used, _):
            return used

    def add(self, kind: str, size: int, limit: int | None = None) -> bool:
        """Counts an entry; False, and nothing counted, when all of them would then take more than `limit` bytes."""
        with self._open() as (used, save_ledger):
            if limit is not None and sum(used.values()) + size > limit:
                return False
            save_ledger({**used, kind: max(0, used[kind] + size)})
            return True

    @contextmanager
    def _open(self) -> Iterator[tuple[dict[str, int], Callable[[dict[str, int]], None]]]:
        self.path.touch()
        with self.path.open("r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise ValueError(f"{self.path} cannot be locked ({error}): name a folder on another disk") from error

            def save_ledger(used: dict[str, int]) -> None:
                file.seek(0)
                file.write(json.dumps(used).ljust(LEDGER_BYTES).encode())

            yield self._parsed(file.read(LEDGER_BYTES)), save_ledger

    def _parsed(self, text: bytes) -> dict[str, int]:
        try:
            return {kind: int(json.loads(text)[kind]) for kind in KINDS}
        except (ValueError, KeyError, TypeError):  # new or damaged
            return {kind: _bytes_in(self.folder / kind) for kind in KINDS}


class CachedReader(Reader):
    """A Reader that takes from a cache what it has read before.

    Args:
        cache: The cache.
        reader: The Reader whose place it takes.
    """

    def __init__(self, cache: TensorCache, reader: Reader):
        super().__init__(reader.backbone, reader.merge, reader.max_tokens)
        self.cache, self.fingerprint = cache, Fingerprint(reader.backbone)
        self._code = source_digest([Reader, capture, fold_rows, pack])

    def __call__(self, samples: list[Sample]) -> list[Reading]:
        """See Reader; also ValueError when a sample has an entry that cannot be told apart by content."""
        read, device = super().__call__, self.backbone.device
        settings = self.fingerprint(), arithmetic(device), self.merge, self._code
        seen = [{key: value for key, value in sample.items() if key not in UNSEEN} for sample in samples]

        def compute(missing: list[int]) -> list[Entry]:
            return [_packed(reading) for reading in read([samples[i] for i in missing])]

        entries = self.cache.through("lmm", [digest(settings, sample) for sample in seen], compute)
        return [_unpacked(entry, device) for entry in entries]


class CachedEncoder:
    """SAM's image encoder, with a cache.

    Args:
        cache: The cache.
        sam: The SAMWrapper.
    """

    def __init__(self, cache: TensorCache, sam: Any):
        self.cache, self.sam, self.fingerprint = cache, sam, Fingerprint(sam.model.image_encoder)
        self._code = source_digest([type(sam), type(sam.model), type(sam.transform)])

    def __call__(self, images: list[Image.Image]) -> list[Embedding]:
        """See `SAMWrapper.encode`."""
        model = self.sam.model
        frame = model.pixel_mean, model.pixel_std, model.mask_decoder.iou_token.weight.dtype  # of the embeddings
        settings = self.fingerprint(), arithmetic(model.device), frame, self._code

        def compute(missing: list[int]) -> list[Entry]:
            found = self.sam.encode([distinct[i] for i in missing])
            return [{"features": image.features, "size": torch.tensor(image.input_size)} for image in found]

        distinct = list({id(image): image for image in images}.values())
        entries = self.cache.through("sam", [digest(settings, image) for image in distinct], compute)
        embeddings = {
            id(image): Embedding(
                entry["features"].to(model.device), tuple(entry["size"].tolist()), (image.height, image.width)
            )
            for image, entry in zip(distinct, entries, strict=True)
        }
        return [embeddings[id(image)] for image in images]


@HOOKS.register_module()
class CacheHook(Hook):
    """Tells the model's cache how many samples there are, so that it can say beforehand what room they need."""

    def before_train(self, runner: Any) -> None:
        """Called by the runner."""
        model = getattr(runner.model, "module", runner.model)
        if getattr(model, "cache", None) is not None:
            model.cache.samples = len(runner.train_loop.dataloader.dataset)


def _packed(reading: Reading) -> Entry:
    views = {f"attention.{index}": view for index, view in enumerate(reading.attention)}
    return {**views, "hidden": reading.hidden, "mask_ids": reading.mask_ids}


def _unpacked(entry: Entry, device: torch.device) -> Reading:
    moved = {name: value.to(device) for name, value in entry.items()}
    views = [moved[f"attention.{index}"] for index in range(len(moved) - 2)]
    return Reading(attention=views, hidden=moved["hidden"], mask_ids=moved["mask_ids"])


def _order(tensor: Tensor) -> list[int]:
    """The dimensions as they lie in memory, outermost first."""
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def _unordered(tensor: Tensor, order: list[int]) -> Tensor:
    """A tensor whose dimensions were put in `order`, as it was.

    It is copied to memory of torch's own: kernels that look at alignment or layout round it as they did before.
    """
    return tensor.clone().permute([order.index(dim) for dim in range(tensor.ndim)])


def _remove(path: Path) -> int:
    """Removes a file if it is there; returns how many bytes it had."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))


def _warn(message: str) -> None:
    print_log(message, logger="current", level=logging.WARNING)
