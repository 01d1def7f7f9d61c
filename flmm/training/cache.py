"""What the frozen parts make of a sample, kept on disk: computed in the first epoch, read in the others.

A key is a digest of all that an entry depends on (`flmm.training.fingerprint`), so nothing outdated is ever read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from flmm.models.backbone import Reading
from flmm.models.capture import capture
from flmm.models.functional import fold_rows
from flmm.models.mask_head.mask_refiner import Embedding
from flmm.models.packing import pack
from flmm.models.reader import Reader, Sample
from flmm.training.fingerprint import Fingerprint, arithmetic, digest, source_digest
from flmm.training.tensor_store import Entry, TensorStore

KINDS = ("lmm", "sam")
# Of a sample, all that no LMM may see; everything else is part of the key, as an adapter may read it.
UNSEEN = {"masks", "padded_masks", "gt_masks", "mask_infos", "file_name", "phrases"}


class TensorCache:
    """Keep readings of the LMM and embeddings of SAM on disk.

    Args:
        folder: Where they lie; made when it does not exist.
        max_gb: Most that each kind takes, in GB of 10^9 bytes (`TensorStore`).
        kinds: What is kept: 'lmm' what the LMM's attention and hidden states say, 'sam' SAM's image embeddings.

    Attributes:
        stores: The TensorStore of each kind.

    Raises:
        ValueError: When `folder` is a file, `max_gb` is not positive, or a kind is unknown.
    """

    def __init__(self, folder: str | os.PathLike, max_gb: float, kinds: Sequence[str] = KINDS):
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise ValueError(f"cache kinds {unknown} are unknown: there are {', '.join(KINDS)}")
        if Path(folder).is_file():
            raise ValueError(f"cache folder {folder} is a file: name a folder")
        self.stores = {kind: TensorStore(Path(folder, kind), max_gb) for kind in kinds}

    def reader(self, reader: Reader) -> Reader:
        """Return a reader that uses this cache, if it keeps what an LMM reads; else the same one."""
        return CachedReader(self.stores["lmm"], reader) if "lmm" in self.stores else reader

    def encoder(self, sam: Any) -> Callable[[list[Image.Image]], list[Embedding]] | None:
        """SAMWrapper's `encode`, through this cache if it keeps what SAM encodes; None without SAM."""
        if sam is None:
            return None
        return CachedEncoder(self.stores["sam"], sam) if "sam" in self.stores else sam.encode


class CachedReader(Reader):
    """A Reader that takes from a store what it has read before.

    Args:
        store: Where readings are kept.
        reader: The Reader whose place it takes.
    """

    def __init__(self, store: TensorStore, reader: Reader):
        super().__init__(reader.backbone, reader.merge, reader.max_tokens, reader.keep_text)
        self.store, self.fingerprint = store, Fingerprint(reader.backbone)
        self._code = source_digest([Reader, capture, fold_rows, pack])

    def __call__(self, samples: list[Sample]) -> list[Reading]:
        """See Reader; also ValueError when a sample has an entry that cannot be told apart by content."""
        read, device = super().__call__, self.backbone.device
        settings = self.fingerprint(), arithmetic(device), self.merge, self.keep_text, self._code
        seen = [{key: value for key, value in sample.items() if key not in UNSEEN} for sample in samples]

        def compute(missing: list[int]) -> list[Entry]:
            return [_packed(reading) for reading in read([samples[i] for i in missing])]

        entries = self.store.through([digest(settings, sample) for sample in seen], compute)
        return [_unpacked(entry, device) for entry in entries]


class CachedEncoder:
    """SAM's image encoder that takes from a store what it has encoded before.

    Args:
        store: Where embeddings are kept.
        sam: The SAMWrapper.
    """

    def __init__(self, store: TensorStore, sam: Any):
        self.store, self.sam, self.fingerprint = store, sam, Fingerprint(sam.model.image_encoder)
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
        entries = self.store.through([digest(settings, image) for image in distinct], compute)
        embeddings = {
            id(image): Embedding(
                entry["features"].to(model.device), tuple(entry["size"].tolist()), (image.height, image.width)
            )
            for image, entry in zip(distinct, entries, strict=True)
        }
        return [embeddings[id(image)] for image in images]


def _packed(reading: Reading) -> Entry:
    entry = {f"attention.{index}": view for index, view in enumerate(reading.attention)}
    entry["mask_ids"] = reading.mask_ids
    if reading.text is not None:
        entry["text"] = reading.text
    if reading.text is None or (reading.mask_ids[: -reading.text.shape[1] or None] >= 0).any():
        entry["hidden"] = reading.hidden  # else they are rows of the text
    return entry


def _unpacked(entry: Entry, device: torch.device) -> Reading:
    moved = {name: value.to(device) for name, value in entry.items()}
    mask_ids, text = moved["mask_ids"], moved.get("text")
    if text is not None and "hidden" not in moved:
        moved["hidden"] = text[:, mask_ids[-text.shape[1] :] >= 0]
    views = [moved[f"attention.{index}"] for index in range(sum(name.startswith("attention.") for name in moved))]
    return Reading(views, moved["hidden"], mask_ids, text)
