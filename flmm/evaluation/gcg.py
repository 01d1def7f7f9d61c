"""Grounded conversation generation: mIoU and recall of phrases with masks, as GLaMM computes them (CVPR 2024).

Masks here are COCO's compressed RLE, with `counts` as bytes or text.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RLE = Mapping[str, Any]
Similarity = Callable[[str, str], float]
THRESHOLD = 0.5


@dataclass(frozen=True)
class Grounded:
    """What a caption grounds: phrases and masks, in the same order where both are known.

    Attributes:
        phrases: Words.
        masks: RLE.
    """

    phrases: Sequence[str]
    masks: Sequence[RLE]


@dataclass(frozen=True)
class Recall:
    """Phrases found among those annotated; addition joins pictures.

    Attributes:
        found: Number of phrases with a prediction of the same place and meaning.
        labels: Number of annotated phrases.
    """

    found: int
    labels: int

    def __add__(self, other: "Recall") -> "Recall":
        return Recall(self.found + other.found, self.labels + other.labels)

    @property
    def percent(self) -> float:
        """Share found, 0..100; 0 without any annotated phrase."""
        return 100 * self.found / self.labels if self.labels else 0.0


def exact_similarity(one: str, other: str) -> float:
    """1 for phrases that are equal after lower-casing, else 0."""
    return float(one.lower() == other.lower())


def iou_matrix(rows: Sequence[RLE], columns: Sequence[RLE]) -> np.ndarray:
    """IoU [N, M] of each mask of one list with each of another; 0 for two empty masks.

    Raises:
        ValueError: When the sizes differ.
    """
    from pycocotools import mask as coco

    sizes = {tuple(mask["size"]) for mask in (*rows, *columns)}
    if len(sizes) > 1:
        raise ValueError(f"masks of one picture have the sizes {sorted(sizes)}: they must be those of the picture")
    if not rows or not columns:
        return np.zeros((len(rows), len(columns)))
    ious = np.asarray(coco.iou(*([_bytes(mask) for mask in masks] for masks in (rows, columns)), [0] * len(columns)))
    return np.nan_to_num(ious)


def _bytes(mask: RLE) -> dict[str, Any]:
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}


def image_miou(predicted: Sequence[RLE], annotated: Sequence[RLE]) -> float:
    """Mean IoU of the pairs of a picture, 0..1: the best pair first, each mask once, pairs that touch only.

    Masks without a partner cost nothing, as in the published protocol. Without any pair it is 0.
    """
    ious, paired = iou_matrix(predicted, annotated), []
    while ious.size and (best := ious.max()) > 0:
        row, column = np.unravel_index(np.argmax(ious), ious.shape)
        paired.append(float(best))
        ious = np.delete(np.delete(ious, row, axis=0), column, axis=1)
    return math.fsum(paired) / len(paired) if paired else 0.0


def image_recall(predicted: Grounded, annotated: Grounded, similarity: Similarity) -> Recall:
    """Recall of a picture as published: the first pair that fails ends the picture.

    Pairs are taken by falling IoU. One counts when IoU and similarity are at least 0.5. A mask without a phrase at the
    place of the best pair makes the published code fail, which counts 0 for the picture.
    """
    ious, found = iou_matrix(annotated.masks, predicted.masks), 0
    while ious.size:
        label, guess = (int(i) for i in np.unravel_index(np.argmax(ious), ious.shape))
        if ious[label, guess] < THRESHOLD:
            break
        if label >= len(annotated.phrases) or guess >= len(predicted.phrases):
            found = 0
            break
        if similarity(annotated.phrases[label], predicted.phrases[guess]) < THRESHOLD:
            break
        found += 1
        ious[label, :] = ious[:, guess] = 0
    return Recall(found, len(annotated.phrases))


def image_recall_fixed(predicted: Grounded, annotated: Grounded, similarity: Similarity) -> Recall:
    """Recall of a picture where a pair that fails is skipped, and the others still count."""
    ious, found = iou_matrix(annotated.masks, predicted.masks), 0
    ious = ious[: len(annotated.phrases), : len(predicted.phrases)]
    while ious.size and ious.max() >= THRESHOLD:
        label, guess = (int(i) for i in np.unravel_index(np.argmax(ious), ious.shape))
        if similarity(annotated.phrases[label], predicted.phrases[guess]) >= THRESHOLD:
            found += 1
            ious[label, :] = ious[:, guess] = 0
        else:
            ious[label, guess] = 0
    return Recall(found, len(annotated.phrases))


def average_precision50(predicted: Mapping[Any, Sequence[RLE]], annotated: Mapping[Any, Sequence[RLE]]) -> float | None:
    """AP at IoU 0.5 in percent, by pycocotools: one category, every score 1, at most 100 masks of a picture.

    Args:
        predicted: Masks of each picture, in the order they were said; pictures that are not annotated do not count.
        annotated: Masks of each picture.

    Returns:
        0..100, or None when no mask is annotated.
    """
    from pycocotools import mask as coco

    images = sorted(annotated, key=lambda image: (isinstance(image, str), image))  # the order decides about ties

    def entries(masks: Mapping[Any, Sequence[RLE]]) -> list[dict[str, Any]]:
        flat = [(number, _bytes(mask)) for number, image in enumerate(images) for mask in masks.get(image, ())]
        return [
            {"id": i, "image_id": number, "category_id": 1, "segmentation": mask, "area": float(coco.area(mask))}
            | {"iscrowd": 0, "score": 1.0}
            for i, (number, mask) in enumerate(flat, 1)  # pycocotools takes the id 0 for no match
        ]

    truths, guesses = entries(annotated), entries(predicted)
    if not truths:
        return None
    value = _coco_ap50(len(images), truths, guesses) if guesses else 0.0
    return 100 * max(value, 0.0)


def _coco_ap50(images: int, truths: list[dict[str, Any]], guesses: list[dict[str, Any]]) -> float:
    from contextlib import redirect_stdout
    from io import StringIO

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def index(annotations: list[dict[str, Any]]) -> COCO:
        data = COCO()
        known = [{"id": number, "height": 1, "width": 1} for number in range(images)]  # read, but not used for RLE
        data.dataset = {"images": known, "categories": [{"id": 1}], "annotations": annotations}
        data.createIndex()
        return data

    with redirect_stdout(StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(index(truths), index(guesses), "segm")
        evaluation.params.catIds = [1]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1])
