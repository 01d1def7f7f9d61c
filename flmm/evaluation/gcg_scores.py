"""From predictions and annotations on disk to the table of grounded conversation generation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flmm.console import progress
from flmm.datasets.gcg import GroundTruth, Prediction, read_ground_truth, read_predictions
from flmm.evaluation.caption_scores import caption_scores, text_similarity
from flmm.evaluation.gcg import (
    Grounded,
    Recall,
    Similarity,
    average_precision50,
    image_miou,
    image_recall,
    image_recall_fixed,
)

METRICS = ("AP50", "mIoU", "recall", "recall_fixed", "METEOR", "CIDEr")
Scores = dict[str, float | None]


def evaluate_gcg(
    predictions: str | Path, captions: str | Path, masks: str | Path, similarity: str | None
) -> tuple[Scores, list[str]]:
    """Score a folder of predictions.

    Args:
        predictions: Folder with `<image_id>.json` of every annotated picture.
        captions: `{val,test}_gcg_coco_caption_gt.json`.
        masks: `{val,test}_gcg_coco_mask_gt.json`.
        similarity: See `text_similarity`.

    Returns:
        METRICS in percent, None for what cannot be computed here, and remarks on them.

    Raises:
        FileNotFoundError: A file or prediction is missing.
        ValueError: One cannot be used; names it.
    """
    alike = text_similarity(similarity)
    truths = read_ground_truth(captions, masks)
    if not truths:
        raise ValueError(f"{captions} lists no picture: is it the file of captions?")
    found = read_predictions(predictions, truths)
    words, remarks = caption_scores(
        {truth.image_id: prediction.caption for truth, prediction in zip(truths, found, strict=True)},
        {truth.image_id: truth.captions for truth in truths},
    )
    if alike is None:
        remarks.append("recall compares phrases: name a text encoder, e.g. --similarity bert-base-uncased, or `exact`")
    return {**_mask_scores(truths, found), **_recalls(truths, found, alike), **words}, remarks


def _mask_scores(truths: Sequence[GroundTruth], found: Sequence[Prediction]) -> Scores:
    ids = [truth.image_id for truth in truths]
    predicted, annotated = (dict(zip(ids, (item.masks for item in items), strict=True)) for items in (found, truths))
    ious = [image_miou(p.masks, t.masks) for t, p in zip(truths, found, strict=True)]
    return {"AP50": average_precision50(predicted, annotated), "mIoU": 100 * math.fsum(ious) / len(ious)}


def _recalls(truths: Sequence[GroundTruth], found: Sequence[Prediction], alike: Similarity | None) -> Scores:
    if alike is None:
        return {"recall": None, "recall_fixed": None}
    published = fixed = Recall(0, 0)
    for truth, prediction in progress(list(zip(truths, found, strict=True)), desc="recall", unit="image"):
        pair = _grounded(prediction), _grounded(truth)
        published += image_recall(*pair, alike)
        fixed += image_recall_fixed(*pair, alike)
    return {"recall": published.percent, "recall_fixed": fixed.percent}


def _grounded(item: Any) -> Grounded:
    return Grounded(item.phrases, item.masks)
