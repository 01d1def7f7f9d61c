"""GranD-f: captions whose phrases have masks, and predictions in the format that its evaluation reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from flmm.datasets.annotations import CURE, decode_file, is_list_of
from flmm.datasets.images import as_annotated, load_image, read_image
from flmm.datasets.regions import RLE, as_rle

ANNOTATIONS = "annotations/val_test"
PICTURES = "GranDf_HA_images/val_test"
SPLITS = ("val", "test")
Id = str | int


class _Image(msgspec.Struct):
    id: Id
    height: int = 0
    width: int = 0


class _Caption(msgspec.Struct):
    image_id: Id
    caption: str
    labels: list[str] = []


class _Listed(msgspec.Struct):
    images: list[_Image]


class _Captions(_Listed):
    annotations: list[_Caption]


class _Mask(msgspec.Struct):
    image_id: Id
    segmentation: Any


class _Masks(msgspec.Struct):
    annotations: list[_Mask]
    images: list[_Image] = []


@dataclass(frozen=True)
class GroundTruth:
    """An annotated picture.

    Attributes:
        image_id: Names its picture and its prediction.
        size: (height, width) of its masks; as the captions' file says where it has no mask.
        captions: One or more.
        phrases: Words of the first caption that have a mask.
        masks: COCO's compressed run lengths, in the order of `phrases`.
    """

    image_id: Id
    size: tuple[int, int]
    captions: list[str]
    phrases: list[str]
    masks: list[RLE]


@dataclass(frozen=True)
class Prediction:
    """What a model said about a picture; attributes as of `GroundTruth`."""

    caption: str
    phrases: list[str]
    masks: list[RLE]


def annotation_files(root: str | Path, split: str) -> tuple[Path, Path]:
    """Return the captions and the masks of a split, as they are named where they are published."""
    folder = Path(root, ANNOTATIONS)
    return folder / f"{split}_gcg_coco_caption_gt.json", folder / f"{split}_gcg_coco_mask_gt.json"


def picture(root: str | Path, image_id: Id) -> Path:
    """Return the picture of an id; its folder is inside the annotations' root or beside it."""
    inside, beside = Path(root, PICTURES), Path(root).parent / PICTURES
    return (beside if beside.is_dir() and not inside.is_dir() else inside) / f"{image_id}.jpg"


def read_ground_truth(captions: str | Path, masks: str | Path) -> list[GroundTruth]:
    """Return the annotated pictures, in the order of the captions' file.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is cut or of another format, a picture has no caption, a mask is of an unknown picture or
            cannot be read; names the file.
    """
    said = decode_file(captions, msgspec.json.Decoder(_Captions))
    drawn = decode_file(masks, msgspec.json.Decoder(_Masks))
    by_image: dict[Id, list[_Caption]] = {}
    for caption in said.annotations:
        by_image.setdefault(caption.image_id, []).append(caption)
    known = {image.id: (image.height, image.width) for image in drawn.images}
    given = {image.id: (image.height, image.width) for image in said.images}
    sizes = {image: size if any(size) else known.get(image, size) for image, size in given.items()}
    regions: dict[Id, list[RLE]] = {image: [] for image in sizes}
    for number, mask in enumerate(drawn.annotations):
        if mask.image_id not in regions:
            raise ValueError(f"{masks}, annotation {number}: picture {mask.image_id!r} is not in {captions}")
        known_size = sizes[mask.image_id]
        needed = None if isinstance(mask.segmentation, Mapping) or not any(known_size) else known_size
        regions[mask.image_id].append(_rle(mask.segmentation, needed, f"{masks}, annotation {number}"))
    if bare := [image for image in sizes if image not in by_image]:
        raise ValueError(f"{captions}: {len(bare)} of {len(sizes)} pictures have no caption, the first {bare[0]!r}")
    return [_truth(image, size, by_image[image], regions[image]) for image, size in sizes.items()]


def _truth(image: Id, size: tuple[int, int], captions: list[_Caption], masks: list[RLE]) -> GroundTruth:
    own = (masks[0]["size"][0], masks[0]["size"][1]) if masks else size
    return GroundTruth(image, own, [caption.caption for caption in captions], captions[0].labels, masks)


def read_images(captions: str | Path) -> dict[Id, tuple[int, int]]:
    """(height, width) of the pictures of a captions' file, zeros where it does not say (errors: `decode_file`)."""
    images = decode_file(captions, msgspec.json.Decoder(_Listed)).images
    return {image.id: (image.height, image.width) for image in images}


def open_picture(root: str | Path, image_id: Id, size: tuple[int, int]) -> Image.Image:
    """Return the picture of an id, in the orientation of its annotation, RGB (errors: `as_annotated`)."""
    file = picture(root, image_id)
    if not any(size):
        return load_image(file)
    upright = as_annotated(read_image(file), size, str(file)).convert("RGB")
    return Image.fromarray(np.asarray(upright))  # without an EXIF entry that would turn it again


def _rle(region: Any, size: tuple[int, int] | None, source: str) -> RLE:
    try:
        return as_rle(region, size)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def read_prediction(file: str | Path, size: tuple[int, int] | None = None) -> Prediction:
    """Return a prediction; GLaMM's older form, inside an object of one entry, is read as well.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no JSON, lacks an entry, or a mask is of another size; names the file.
    """
    content = decode_file(file, msgspec.json.Decoder())
    if isinstance(content, Mapping) and "caption" not in content and len(content) == 1:
        content = next(iter(content.values()))
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ValueError(f"{file} has another format: it holds a {kind}, a prediction is an object")
    try:
        caption, phrases, regions = (content[key] for key in ("caption", "phrases", "pred_masks"))
    except KeyError as error:
        raise ValueError(f"{file} lacks {error}: a prediction has caption, phrases and pred_masks") from error
    if not isinstance(caption, str) or not is_list_of(str, phrases) or not isinstance(regions, list):
        raise ValueError(f"{file}: caption must be a text, phrases a list of texts, pred_masks a list of masks")
    masks = [_rle(region, size, f"{file}, mask {number}") for number, region in enumerate(regions)]
    return Prediction(caption, phrases, masks)


def read_predictions(folder: str | Path, truths: Sequence[GroundTruth]) -> list[Prediction]:
    """Return the predictions `<image_id>.json` of a folder for every annotated picture.

    Raises:
        FileNotFoundError: When some are missing: metrics of the others would be of other data.
    """
    files = [Path(folder, f"{truth.image_id}.json") for truth in truths]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} predictions are missing, the first {missing[0]}: run "
            "scripts/multiprocess_infer_gcg.py again, it goes on where it stopped"
        )
    return [
        read_prediction(file, truth.size if truth.masks else None) for file, truth in zip(files, truths, strict=True)
    ]


def picture_problem(root: str | Path, truth: GroundTruth) -> str:
    """What is wrong with the picture or the masks of an item, in words; empty when nothing is."""
    if len(truth.phrases) != len(truth.masks):
        return f"picture {truth.image_id!r} has {len(truth.phrases)} phrases but {len(truth.masks)} masks"
    try:
        open_picture(root, truth.image_id, truth.size)
    except FileNotFoundError:
        return ""  # the folder's own line says it
    except (ValueError, OSError) as error:
        return f"{error}; {CURE}"
    return ""
