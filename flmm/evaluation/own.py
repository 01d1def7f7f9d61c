"""Evaluation of your data: the metrics of PNG and of RES, and of phrases that the picture does not show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flmm.config import evaluation_settings
from flmm.datasets.own import OwnDataset
from flmm.evaluation.no_target import NoTargetMetric
from flmm.evaluation.records import KINDS, Record
from flmm.evaluation.run import Evaluation, Metrics, png_metrics, res_metrics


def evaluate_own(evaluation: Evaluation, file: str | Path, root: str | Path | None = None) -> Metrics:
    """Metrics of a JSON Lines file, per kind of mask: `png` and `res` of phrases with a target, `no_target` of all.

    Args:
        evaluation: The model.
        file: The JSON Lines file.
        root: Folder that its paths start from; by default that of the file.
    """
    settings = evaluation_settings(evaluation.config)
    records = evaluation.records(
        Path(file).stem,
        "own",
        lambda: OwnDataset(file, root=root, **settings),
        files=[file],
        root=None if root is None else str(root),
    )
    return own_summary(records)


def own_summary(records: list[Record]) -> Metrics:
    """Return the metrics of records, per kind of mask."""
    phrases = [phrase for record in records for phrase in record["phrases"]]
    kinds = [kind for kind in KINDS if phrases and kind in phrases[0]]
    return {"images": len(records), "phrases": len(phrases), **{kind: _of_kind(phrases, kind) for kind in kinds}}


def _of_kind(phrases: list[dict[str, Any]], kind: str) -> Metrics:
    targets = [phrase for phrase in phrases if phrase["area"]]
    absent = NoTargetMetric()
    absent.update(
        [phrase["area"] for phrase in phrases],
        [phrase[kind]["union"] + phrase[kind]["intersection"] - phrase["area"] for phrase in phrases],
        [phrase[kind]["iou"] for phrase in phrases],
    )
    return {"png": png_metrics(targets, kind), "res": res_metrics(targets, kind), "no_target": absent.compute()}
