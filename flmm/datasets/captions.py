"""Panoptic Narrative Grounding captions joined with COCO's panoptic annotation, compact in memory."""

import gc
import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log
from PIL import Image

_CURE = "see docs/data.md for the sources, and run `flmm data check`"


class Segment(NamedTuple):
    """A piece of a caption; a phrase when it names panoptic segments."""

    words: str
    ids: tuple[int, ...]
    plural: bool
    isthing: bool = False

    @property
    def is_phrase(self) -> bool:
        """Whether the words have a mask."""
        return len(self.ids) > 0


class PanopticImage(NamedTuple):
    """What the panoptic annotation says of one image."""

    file_name: str
    segm_file: str
    height: int
    width: int
    things: dict[int, bool]  # segment id -> is it a thing (else stuff)


class PackedList(Sequence):
    """A read-only list that keeps its items pickled in one buffer.

    134,272 captions as Python objects take several times the memory, once more in every worker, because
    reading an object writes its reference count.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        blobs = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
        self._buffer = np.frombuffer(b"".join(blobs), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        start = self._ends[index - 1] if index else 0
        return pickle.loads(self._buffer[start : self._ends[index]].data)


@contextmanager
def no_collection() -> Iterator[None]:
    """Reading annotations makes millions of objects, none in a cycle; collecting them doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@no_collection()
def read_captions(json_file: str | Path, panoptic_json_file: str | Path, allow_missing: bool = False) -> PackedList:
    """Every caption with at least one phrase, joined with its image's panoptic annotation.

    Args:
        json_file: `png_coco_*.json`.
        panoptic_json_file: `panoptic_*.json` of the same split.
        allow_missing: Accept plural phrases with a segment that the panoptic annotation lacks.

    Returns:
        (image file, panoptic PNG, segments) for each caption.

    Raises:
        ValueError: An image or segment that the panoptic annotation lacks, a phrase without words, no
            caption left.
    """
    images = read_panoptic(panoptic_json_file)
    captions = list(read_segments(json_file))
    problems: list[str] = []
    items = PackedList(
        _joined(images.get(image_id), image_id, segments, allow_missing, problems)
        for image_id, segments in captions
        if any(segment.ids for segment in segments)
    )
    if problems:
        raise ValueError(_report(json_file, panoptic_json_file, problems, len(captions)))
    if not len(items):
        raise ValueError(f"{json_file} has no caption with a grounded phrase ({len(captions)} captions)")
    print_log(
        f"{json_file}: {len(items)} captions, {len(captions) - len(items)} without a phrase left out",
        "current",
    )
    return items


def read_json(path: str | Path, object_hook=None) -> Any:
    """A JSON file; FileNotFoundError or ValueError name the file and the cure."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file, object_hook=object_hook)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no annotation file {path}: {_CURE}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not complete JSON ({error}): fetch it again; {_CURE}") from error


def read_panoptic(path: str | Path) -> dict[int, PanopticImage]:
    """COCO panoptic annotation by image id. PNGs are named like the images, as mmdet does it."""
    data = read_json(path, object_hook=_slim_panoptic)
    isthing = {category["id"]: bool(category["isthing"]) for category in data["categories"]}
    segments = {
        annotation["image_id"]: {i: isthing[category] for i, category in annotation["segments_info"]}
        for annotation in data["annotations"]
    }
    return {
        image["id"]: PanopticImage(
            image["file_name"],
            image["file_name"].replace(".jpg", ".png"),
            image["height"],
            image["width"],
            segments.get(image["id"], {}),
        )
        for image in data["images"]
    }


def read_segments(path: str | Path) -> Iterator[tuple[int, tuple[Segment, ...]]]:
    """(image id, segments) of every caption of a PNG file, with or without phrases."""
    for item in read_json(path, object_hook=_slim_caption):
        yield int(item["image_id"]), tuple(item["segments"])


def segment_map(path: str | Path) -> np.ndarray:
    """[H, W] segment ids of a panoptic PNG: red + 256 green + 65536 blue."""
    try:
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB"), dtype=np.int32)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no panoptic PNG {path}: its folder may be cut short; {_CURE}") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"panoptic PNG {path} cannot be decoded ({error}): it is cut, unpack it again") from error
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def problem_of(
    image: PanopticImage | None, image_id: int, segments: Sequence[Segment], allow_missing: bool = False
) -> str:
    """What is wrong with a caption, in words; empty when nothing is."""
    if image is None:
        return f"image {image_id} is not in it"
    for segment in segments:
        if segment.is_phrase and not segment.words.strip():
            return f"a phrase of image {image_id} has segments {list(segment.ids)} but no words"
        absent = [i for i in segment.ids if i not in image.things]
        if absent and not (allow_missing and segment.plural):
            return f"segment(s) {absent} of phrase {segment.words!r}, image {image_id}, are not in it"
    return ""


def _joined(
    image: PanopticImage | None,
    image_id: int,
    segments: Sequence[Segment],
    allow_missing: bool,
    problems: list[str],
) -> tuple[str, str, tuple[Segment, ...]] | None:
    problem = problem_of(image, image_id, segments, allow_missing)
    if problem or image is None:
        problems.append(problem)
        return None
    joined = tuple(
        Segment(words, ids, plural, bool(ids) and (plural or image.things[ids[0]]))
        for words, ids, plural, _ in segments
    )
    return image.file_name, image.segm_file, joined


def _report(json_file, panoptic_json_file, problems: list[str], total: int) -> str:
    return (
        f"{len(problems)} of {total} captions of {json_file} do not fit {panoptic_json_file}: "
        f"{problems[0]}. Are both files of the same split (train or val), and complete? "
        "allow_empty_masks=True accepts plural phrases whose segments are missing"
    )


def _slim_caption(entry: dict[str, Any]) -> Any:
    """Drops the rest of a caption's segment while the file is parsed: the whole tree takes gigabytes."""
    if "utterance" in entry:
        return Segment(entry["utterance"], tuple(int(i) for i in entry["segment_ids"]), bool(entry["plural"]))
    return entry


def _slim_panoptic(entry: dict[str, Any]) -> Any:
    if "category_id" in entry:
        return entry["id"], entry["category_id"]
    return entry
