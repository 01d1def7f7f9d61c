"""RefCOCO's annotation files, read without keeping them in memory."""

import pickle
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine
import msgspec
from msgspec import Raw, Struct

from flmm.datasets.annotations import CURE, CocoImage, by_id, decode_file, no_collection
from flmm.datasets.folding import is_blank
from flmm.masks import segmentation_problem

Ref = dict[str, Any]


class Instance(Struct, gc=False):
    """An object of instances.json; its polygons or run lengths stay JSON until they are needed."""

    id: int
    segmentation: Raw
    image_id: int | None = None

    @property
    def shape(self) -> Any:
        """COCO segmentation: lists of x, y, or a dict of run lengths."""
        return msgspec.json.decode(self.segmentation)


class _Instances(Struct):
    images: list[CocoImage]
    annotations: list[Instance]


_INSTANCES = msgspec.json.Decoder(_Instances, strict=False)


def read_instances(path: str | Path) -> tuple[dict[int, CocoImage], dict[int, Instance]]:
    """Images and objects of an instances.json by id (errors: `decode_file`, `by_id`)."""
    content = decode_file(path, _INSTANCES)
    return by_id(content.images, "images", path), by_id(content.annotations, "annotations", path)


def read_refs(path: str | Path) -> list[Ref]:
    """Return the references of a refs(...).p, each a dict with a split.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no pickle, cut, no list of such references, or two of different objects have one ref_id.
    """
    try:
        refs = mmengine.load(path, file_format="pkl")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no annotation file {path}: {CURE}") from error
    except (EOFError, pickle.UnpicklingError, ValueError, LookupError, AttributeError, ImportError, TypeError) as error:
        raise ValueError(f"{path} is no complete pickle ({error}): fetch it again; {CURE}") from error
    if not isinstance(refs, list | tuple):
        raise ValueError(f"{path} holds a {type(refs).__name__}, not a list of references; {CURE}")
    for index, ref in enumerate(refs):
        if not isinstance(ref, Mapping) or not isinstance(ref.get("split"), str):
            raise ValueError(f"{path}: reference {index} is no dict with a split (train, val, ...): {_short(ref)}")
    if not refs:
        raise ValueError(f"{path} holds no reference; {CURE}")
    _check_ref_ids(refs, path)
    return list(refs)


def _check_ref_ids(refs: Sequence[Ref], path: str | Path) -> None:
    """Refuse references of different objects with one ref_id: only the last would be used, in the place of both."""
    objects: dict[Any, Any] = {}
    for ref in refs:
        known = objects.setdefault(ref.get("ref_id"), ref.get("ann_id"))
        if ref.get("ref_id") is not None and known != ref.get("ann_id"):
            raise ValueError(
                f"{path}: references of the objects {known!r} and {ref.get('ann_id')!r} have the same ref_id "
                f"{ref['ref_id']!r}: give each its own"
            )


def ref_problem(ref: Ref, images: Mapping[int, CocoImage], instances: Mapping[int, Instance]) -> str:
    """Say what is wrong with a reference, its object or the object's mask; empty when nothing is."""
    if absent := [key for key in ("ref_id", "ann_id", "image_id", "sentences") if key not in ref]:
        return f"object {_short(ref.get('ref_id', ref))} has no {', no '.join(absent)}"
    name = f"object {ref['ref_id']}"
    if ref["ann_id"] not in instances:
        return f"{name}: no annotation {ref['ann_id']!r}"
    if ref["image_id"] not in images:
        return f"{name}: no image {ref['image_id']!r}"
    if problem := _sentences_problem(ref["sentences"]):
        return f"{name} {problem}"
    image, owner = images[ref["image_id"]], instances[ref["ann_id"]].image_id
    if owner not in (None, image.id):
        return f"{name}: annotation {ref['ann_id']} is of image {owner}, but the reference is of image {image.id}"
    if problem := segmentation_problem(instances[ref["ann_id"]].shape, image.height, image.width):
        return f"{name}, annotation {ref['ann_id']} of {image.file_name}: {problem}"
    return ""


def _sentences_problem(sentences: Any) -> str:
    if not isinstance(sentences, list | tuple):
        return f"has sentences={_short(sentences)}, not a list"
    if not sentences:
        return "has an empty list of sentences, so nothing refers to it: leave the object out"
    for sentence in sentences:
        raw = sentence.get("raw") if isinstance(sentence, Mapping) else None
        if not isinstance(raw, str):
            return f"has the sentence {_short(sentence)}: write {{'raw': 'the words'}}"
        if is_blank(raw):
            return "has an empty expression"
    return ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@no_collection()
def read_items(
    refs_file: str | Path, instances_file: str | Path, split: str, text_mode: str = "original"
) -> list[dict[str, Any]]:
    """Return the images of a split with their expressions, as items of mmdet's RefCocoDataset.

    Items and their order equal those of mmdet 3.3.0: of two references to one object the later one's sentences
    are used at the place of the first, and images come in the order of a Python set of their ids.

    Args:
        refs_file: A refs(...).p.
        instances_file: Its instances.json.
        split: e.g. 'train'.
        text_mode: Which expressions of an object: 'random' one, 'select_first', 'original' (all), or 'concat' as one.

    Returns:
        For each image `file_name`, `img_id`, `height`, `width`, `text` and, for each text, `instances`.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is cut, the split has no reference, or an object, its image, mask or sentences
            cannot be used.
    """
    refs = read_refs(refs_file)
    objects = _objects(refs, split)
    if not objects:
        known = sorted({ref["split"] for ref in refs})
        raise ValueError(f'No sample in split "{split}" of {refs_file}; it has {", ".join(known)}')
    del refs  # sentences of the other splits
    images, instances = read_instances(instances_file)
    problems = [problem for ref in objects.values() if (problem := ref_problem(ref, images, instances))]
    if problems:
        raise ValueError(
            f"{refs_file} with {instances_file}: {len(problems)} of {len(objects)} objects of split {split} "
            f"cannot be used, the first: {problems[0]}. Are both of the same RefCOCO? {CURE}"
        )
    return [
        {
            "file_name": images[image].file_name,
            "img_id": image,
            "height": images[image].height,
            "width": images[image].width,
            **_expressions(found, instances, text_mode),
        }
        for image, found in _by_image(objects.values()).items()
    ]


def _objects(refs: Sequence[Ref], split: str) -> dict[Any, Ref]:
    """Return the reference of each object of a split, by annotation id; missing fields are reported later."""
    by_id = {ref.get("ref_id"): ref for ref in refs}
    chosen = [by_id[ref.get("ref_id")] for ref in refs if ref["split"] == split]
    return {ref.get("ann_id"): ref for ref in chosen}


def _by_image(refs: Collection[Ref]) -> dict[int, list[Ref]]:
    """Return the references of each image, images in the order of the set of their ids."""
    found: dict[int, list[Ref]] = {image: [] for image in {int(ref["image_id"]) for ref in refs}}
    for ref in refs:
        found[int(ref["image_id"])].append(ref)
    return found


def _expressions(refs: Iterable[Ref], instances: Mapping[int, Instance], mode: str) -> dict[str, list]:
    """Expressions of an image, and the mask of each."""
    masks: list[dict[str, Any]] = []
    texts: list[str] = []
    for ref in refs:
        chosen = _chosen([sentence["raw"].lower() for sentence in ref["sentences"]], mode)
        masks += [{"mask": instances[ref["ann_id"]].shape, "ignore_flag": 0}] * len(chosen)
        texts += chosen
    return {"instances": masks, "text": texts}


def _chosen(texts: list[str], mode: str) -> list[str]:
    """What RefCocoDataset's `text_mode` takes of an object's expressions."""
    if mode == "random":
        return [texts[random.randint(0, len(texts) - 1)]]
    if mode == "select_first":
        return [texts[0]]
    return ["".join(texts)] if mode == "concat" else texts
