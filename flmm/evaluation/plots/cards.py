"""Cards of phrases: a picture with the mask that was found and the true one, from the records of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flmm.config import picture_folders
from flmm.datasets.images import as_picture
from flmm.evaluation.drawings import COLOURS, Colour, outline, overlay, shrink, thumbnail
from flmm.evaluation.groups import GROUPS
from flmm.evaluation.records import Record, RecordStore
from flmm.masks import decode_mask

FOUND, TRUE = COLOURS[1], COLOURS[0]  # blue surface, orange line


@dataclass(frozen=True)
class Place:
    """A phrase of a record.

    Attributes:
        record: Index of the record.
        phrase: Index of the phrase in it.
        iou: Of its mask, 0..1.
        words: The phrase.
    """

    record: int
    phrase: int
    iou: float
    words: str


@dataclass(frozen=True)
class Card:
    """What is shown of a phrase.

    Attributes:
        picture: The picture with the masks.
        figure: The number in front of the words.
        words: The phrase.
    """

    picture: Image.Image
    figure: str
    words: str

    @property
    def text(self) -> str:
        """Number and words."""
        return f"{self.figure}  {self.words}"


def places(records: Sequence[Record], kind: str, group: str = "all", name: str = "all") -> list[Place]:
    """Phrases of a group, the lowest IoU first; those that the picture does not show have none and are left out.

    Args:
        records: One for each picture.
        kind: 'refined' or 'coarse'.
        group: One of `flmm.evaluation.groups.GROUPS`.
        name: Name of a part of it.
    """
    found = [
        Place(number, index, float(phrase[kind]["iou"]), phrase.get("phrase") or "")
        for number, record in enumerate(records)
        for index, phrase in enumerate(record["phrases"])
        if phrase.get("area", 1) and GROUPS[group](phrase) == name
    ]
    return sorted(found, key=lambda place: place.iou)


def picture_folder(records: str | Path) -> Path:
    """Where the pictures of an evaluation are, by the metrics beside its records.

    Raises:
        FileNotFoundError: When nothing beside them says it.
    """
    records = Path(records).resolve()
    for file in sorted(records.parent.glob("*.json")):
        root = json.loads(file.read_text()).get("data_root")
        if root is not None:
            return picture_folders(root, records.name.rpartition(".")[0])[0]
    raise FileNotFoundError(f"nothing beside {records} says where its pictures are: pass --images FOLDER")


class Cards:
    """Makes cards of the phrases of an evaluation.

    Args:
        records: Folder of its records.
        images: Folder of its pictures; by default the one that was evaluated.
        kind: 'refined' or 'coarse'.

    Raises:
        FileNotFoundError: When there is no such folder of pictures.
    """

    def __init__(self, records: str | Path, images: str | Path | None = None, kind: str = "refined"):
        self.store = RecordStore(records)
        self.images = Path(images) if images else picture_folder(records)
        self.kind = kind
        if not self.images.is_dir():
            raise FileNotFoundError(f"no folder {self.images} of pictures: pass --images FOLDER")

    def card(self, place: Place) -> Card:
        """The card of a phrase."""
        return Card(self.picture(place), f"{100 * place.iou:.0f} %", place.words)

    def picture(self, place: Place) -> Image.Image:
        """The picture of a phrase with its masks.

        Raises:
            FileNotFoundError: When the picture is not in the folder.
            ValueError: When the record is damaged, or was written before records kept true masks.
        """
        record = self.store.whole(place.record)
        phrase = record["phrases"][place.phrase]
        if "truth" not in phrase:
            raise ValueError(
                f"{self.store.path(place.record)} holds no true masks, as it is of an older version: evaluate again "
                "with --overwrite"
            )
        small = thumbnail(as_picture(self.images / Path(record["file_name"]).name))
        found, true = (decode_mask(phrase[key]["mask"]) for key in (self.kind, "truth"))
        grey = small.convert("L").convert("RGB")  # a blue thing shall not look as if it were found
        return lined(overlay(grey, found[None], [FOUND], alpha=0.7), true, TRUE)


def lined(picture: Image.Image, mask: np.ndarray, color: Colour) -> Image.Image:
    """The picture with a line of two pixels around a mask [H, W] of any size."""
    inner = shrink(mask, picture.height, picture.width)
    edge = outline(inner)
    pixels = np.array(picture)
    pixels[edge | outline(inner & ~edge)] = color
    return Image.fromarray(pixels)


def extremes(found: Sequence[Any], number: int) -> tuple[list[Any], list[Any]]:
    """The first and the last, the last one first; when there are few, each is in one of the two only."""
    first = list(found[:number])
    return first, list(reversed(found[max(len(first), len(found) - number) :]))
