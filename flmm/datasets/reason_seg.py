"""ReasonSeg: pictures with a question that has to be thought about, and polygons of what answers it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image

from flmm.datasets.annotations import CURE
from flmm.datasets.images import load_image

SPLITS = ("train", "val", "test")
IGNORED = 255
_PICTURES = (".jpg", ".jpeg", ".png", ".JPG")


@dataclass(frozen=True)
class Shape:
    """A polygon of an annotation; `value` is what it paints: 1 for the target, 255 for what is ignored."""

    value: int
    points: np.ndarray  # [N, 2] int32 x, y


@dataclass(frozen=True)
class Question:
    """An annotated picture.

    Attributes:
        image: Its file.
        texts: The same query in several wordings; evaluation uses the first.
        is_sentence: Whether it is a whole (long) sentence; else a short phrase.
        shapes: Polygons, in the order of the file.
    """

    image: Path
    texts: tuple[str, ...]
    is_sentence: bool
    shapes: tuple[Shape, ...]

    @property
    def text(self) -> str:
        """Return the query that evaluation uses."""
        return self.texts[0]

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return [height, width] uint8: 0 background, 1 target, 255 ignored; smaller polygons lie over larger ones."""
        areas = [int(_painted(np.zeros((height, width), np.uint8), shape, 1).sum()) for shape in self.shapes]
        mask = np.zeros((height, width), np.uint8)
        for index in np.argsort(areas)[::-1]:
            _painted(mask, self.shapes[index], self.shapes[index].value)
        return mask


def _painted(mask: np.ndarray, shape: Shape, value: int) -> np.ndarray:
    """Return the mask with a polygon painted into it, its outline included."""
    cv2.polylines(mask, [shape.points], True, value, 1)
    return cv2.fillPoly(mask, [shape.points], value)


def read_question(file: str | Path) -> Question:
    """Return the annotation of a picture.

    Raises:
        FileNotFoundError: No such file, or no picture of its name beside it.
        ValueError: It is no JSON, lacks an entry, or has a text or polygon that cannot be used; names the file.
    """
    file = Path(file)
    content = _read(file)
    try:
        texts = content["text"]
        texts = (texts,) if isinstance(texts, str) else tuple(str(text) for text in texts)
        found = [shape for shape in content["shapes"] if shape["label"].lower() != "flag"]
        shapes = tuple(Shape(_value(shape["label"]), _points(shape["points"])) for shape in found)
        question = Question(_picture(file), texts, bool(content["is_sentence"]), shapes)
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
        cause = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{file} is no annotation of ReasonSeg ({cause}): fetch it again; {CURE}") from error
    if not question.texts or not question.text.strip():
        raise ValueError(f"{file} has no query: `text` must hold at least one sentence or phrase")
    return question


def _read(file: Path) -> Any:
    """JSON in UTF-8, else in Windows' code page: some annotations were saved there."""
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no annotation file {file}: {CURE}") from error
    try:
        try:
            return json.loads(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            return json.loads(content.decode("cp1252"))
    except ValueError as error:  # both kinds of decoding
        raise ValueError(f"{file} is not complete JSON ({error}): fetch it again; {CURE}") from error


def _value(label: str) -> int:
    return IGNORED if "ignore" in label.lower() else 1


def _points(points: Any) -> np.ndarray:
    """Return [N, 2] whole pixels, cut off as the published code cuts them."""
    array = np.array(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"a polygon must be a list of [x, y], this one is an array {array.shape}: {str(points)[:60]}")
    return array.astype(np.int32)


def _picture(file: Path) -> Path:
    picture = next((file.with_suffix(ending) for ending in _PICTURES if file.with_suffix(ending).is_file()), None)
    if picture is None:
        raise FileNotFoundError(f"no picture {file.with_suffix('.jpg')} beside {file.name}: {CURE}")
    return picture


def annotation_files(root: str | Path, split: str) -> list[Path]:
    """Return the annotations of a split, sorted by name.

    Raises:
        FileNotFoundError: When there is none.
    """
    folder = Path(root, split)
    files = sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"no annotation of ReasonSeg in {folder}: {CURE}")
    return files


class ReasonSeg(Sequence[Question]):
    """A split of ReasonSeg; pictures without a polygon are left out, and named in the log.

    Args:
        root: Folder with train, val and test.
        split: One of SPLITS.

    Attributes:
        without_polygon: Names of the annotations that are left out.

    Raises:
        FileNotFoundError: The split, or a picture, is missing.
        ValueError: An annotation cannot be used; names it.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        questions = [(file, read_question(file)) for file in annotation_files(root, split)]
        self._questions = [question for _, question in questions if question.shapes]
        self.without_polygon = [file.name for file, question in questions if not question.shapes]
        if self.without_polygon:
            names = ", ".join(self.without_polygon)
            print_log(f"{root}, {split}: {len(self.without_polygon)} pictures without a polygon: {names}", "current")

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, index):
        return self._questions[index]

    def __iter__(self) -> Iterator[Question]:
        return iter(self._questions)


def open_question(question: Question) -> tuple[Image.Image, np.ndarray]:
    """Return the picture, upright as its annotator saw it, and its mask [H, W] (errors: `load_image`)."""
    image = load_image(question.image)
    return image, question.mask(image.height, image.width)
