"""Panoptic Narrative Grounding captions joined with COCO's panoptic annotation, compact in memory."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from mmengine.logging import print_log
from msgspec import Raw, Struct
from PIL import Image

from flmm.datasets.annotations import CURE, CocoImage, PackedList, by_id, decode, decode_file, no_collection
from flmm.datasets.folding import is_blank
from flmm.datasets.images import check_lossless, ids_of_rgb


class Segment(Struct, frozen=True, array_like=True, gc=False):
    """A piece of a caption; a phrase when it names panoptic segments."""

    words: str
    ids: tuple[int, ...]
    plural: bool
    isthing: bool = False

    @property
    def is_phrase(self) -> bool:
        """Tell whether the words have a mask."""
        return len(self.ids) > 0


class Caption(Struct, frozen=True, array_like=True, gc=False):
    """A caption and the files of its picture."""

    file_name: str
    segm_file: str
    segments: tuple[Segment, ...]


class PanopticImage(NamedTuple):
    """What the panoptic annotation says of one image."""

    file_name: str
    segm_file: str
    height: int
    width: int
    things: dict[int, bool]  # segment id -> is it a thing (else stuff)


class _Piece(Struct, gc=False):
    utterance: str
    segment_ids: list[int]
    plural: bool


class _Narrative(Struct, gc=False):
    image_id: int
    segments: list[_Piece]


class _Annotation(Struct, gc=False):
    id: int = msgspec.field(name="image_id")
    segments_info: Raw
    file_name: str = ""


class _Info(Struct, gc=False):
    id: int
    category_id: int


class _Category(Struct, gc=False):
    id: int
    isthing: bool


class _Panoptic(Struct):
    images: list[CocoImage]
    annotations: list[_Annotation]
    categories: list[_Category]


# Not strict: published files write some ids as strings, and truth as 0 and 1.
_NARRATIVES = msgspec.json.Decoder(list[Raw])
_NARRATIVE = msgspec.json.Decoder(_Narrative, strict=False)
_PANOPTIC = msgspec.json.Decoder(_Panoptic, strict=False)
_INFOS = msgspec.json.Decoder(list[_Info], strict=False)


@no_collection()
def read_captions(
    json_file: str | Path, panoptic_json_file: str | Path, allow_missing: bool = False
) -> PackedList[Caption]:
    """Every caption with at least one phrase, joined with its image's panoptic annotation.

    Args:
        json_file: `png_coco_*.json`.
        panoptic_json_file: `panoptic_*.json` of the same split.
        allow_missing: Accept plural phrases with a segment that the panoptic annotation lacks.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is cut or of another format, an image or segment that the panoptic annotation
            lacks, a phrase without words, no caption left.
    """
    images = Panoptic(panoptic_json_file)
    total, problems = 0, []

    def joined() -> Iterator[Caption]:
        nonlocal total
        for image_id, segments in read_segments(json_file):
            total += 1
            if not any(segment.ids for segment in segments):
                continue
            image = images.get(image_id)
            if problem := problem_of(image, image_id, segments, allow_missing):
                problems.append(problem)
            elif image is not None:
                yield _join(image, segments)

    items = PackedList(joined(), Caption)
    if problems:
        raise ValueError(_report(json_file, panoptic_json_file, problems, total))
    if not len(items):
        raise ValueError(f"{json_file} has no caption with a grounded phrase ({total} captions)")
    print_log(f"{json_file}: {len(items)} captions, {total - len(items)} without a phrase left out", "current")
    return items


class Panoptic(Mapping[int, PanopticImage]):
    """COCO's panoptic annotation by image id. PNGs are those that it names, else named like the images.

    The segments of an image are decoded each time they are asked for: 1.3 million of them as objects would take
    ten times the memory of the file.

    Args:
        path: `panoptic_*.json`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is cut or of another format.
    """

    def __init__(self, path: str | Path) -> None:
        content = decode_file(path, _PANOPTIC)
        self._path = path
        categories = by_id(content.categories, "categories", path)
        self._isthing = {number: category.isthing for number, category in categories.items()}
        self._images = by_id(content.images, "images", path)
        self._annotations = by_id(content.annotations, "annotations of images", path)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[int]:
        return iter(self._images)

    def __getitem__(self, image_id: int) -> PanopticImage:
        image = self._images[image_id]
        annotation = self._annotations.get(image_id)
        named = annotation.file_name if annotation is not None else ""
        png = named or os.path.splitext(image.file_name)[0] + ".png"
        return PanopticImage(image.file_name, png, image.height, image.width, self._things(image_id))

    def _things(self, image_id: int) -> dict[int, bool]:
        annotation = self._annotations.get(image_id)
        source = f"{self._path}, image {image_id}"
        infos = [] if annotation is None else decode(annotation.segments_info, _INFOS, source)
        try:
            segments = by_id(infos, "segments", source)
            return {number: self._isthing[info.category_id] for number, info in segments.items()}
        except KeyError as error:  # which a Mapping would take for an image that is not there
            raise ValueError(f"{self._path}: image {image_id} has category {error}, which `categories` lacks") from None


def read_segments(path: str | Path) -> Iterator[tuple[int, tuple[Segment, ...]]]:
    """(image id, segments) of every caption of a PNG file, with or without phrases."""
    for index, raw in enumerate(decode_file(path, _NARRATIVES)):
        item = decode(raw, _NARRATIVE, f"{path}, caption {index}")
        yield (
            item.image_id,
            tuple(Segment(piece.utterance, tuple(piece.segment_ids), piece.plural) for piece in item.segments),
        )


def segment_map(path: str | Path) -> np.ndarray:
    """Return the segment ids [H, W] of a panoptic PNG: red + 256 green + 65536 blue."""
    try:
        with Image.open(path) as image:
            check_lossless(image, path)
            rgb = np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no panoptic PNG {path}: its folder may be cut short; {CURE}") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"panoptic PNG {path} cannot be decoded ({error}): it is cut, unpack it again") from error
    return ids_of_rgb(rgb)


def problem_of(
    image: PanopticImage | None, image_id: int, segments: Sequence[Segment], allow_missing: bool = False
) -> str:
    """What is wrong with a caption, in words; empty when nothing is."""
    if image is None:
        return f"image {image_id} is not in it"
    for segment in segments:
        if segment.ids and is_blank(segment.words):
            return f"a phrase of image {image_id} has segments {list(segment.ids)} but no words"
        absent = [i for i in segment.ids if i not in image.things]
        if absent and not (allow_missing and segment.plural):
            return f"segment(s) {absent} of phrase {segment.words!r}, image {image_id}, are not in it"
    return ""


def _join(image: PanopticImage, segments: Sequence[Segment]) -> Caption:
    joined = tuple(
        Segment(segment.words, segment.ids, segment.plural, segment.plural or image.things[segment.ids[0]])
        if segment.ids
        else segment
        for segment in segments
    )
    return Caption(image.file_name, image.segm_file, joined)


def _report(json_file, panoptic_json_file, problems: list[str], total: int) -> str:
    return (
        f"{len(problems)} of {total} captions of {json_file} do not fit {panoptic_json_file}: "
        f"{problems[0]}. Are both files of the same split (train or val), and complete? "
        "allow_empty_masks=True accepts plural phrases whose segments are missing"
    )
