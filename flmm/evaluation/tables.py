"""Metrics as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from flmm.console import console
from flmm.evaluation.png import GROUPS
from flmm.evaluation.reason_seg import QUERIES

Rows = Iterable[Iterable[Any]]


def print_table(title: str, header: Iterable[str], rows: Rows) -> None:
    """Print a table: numbers with two decimals to the right, None as a dash."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(header):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console().print(table)


def cell(value: Any) -> str:
    """One cell of a table as text."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def kinds_of(metrics: Mapping[str, Any]) -> list[str]:
    """Return the kinds of masks that metrics were computed for."""
    return [kind for kind in ("refined", "coarse") if kind in metrics]


def png_rows(metrics: Mapping[str, Any]) -> list[list[Any]]:
    """Rows of PNG_HEADER for the metrics of one split."""
    return [
        [kind, *(metrics[kind][group]["average_recall"] for group in GROUPS)]
        + [metrics[kind]["all"]["accuracy"], metrics[kind]["all"]["pixel_accuracy"]]
        + [metrics[kind]["box_mIoU"], metrics[kind]["box_acc50"], metrics[kind]["all"]["phrases"]]
        for kind in kinds_of(metrics)
    ]


def res_rows(splits: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of RES_HEADER for the metrics of several splits."""
    columns = ("cIoU", "mIoU", "box_mIoU", "box_acc50", "masks")
    return [
        [split, kind, *(metrics[kind][column] for column in columns)]
        for split, metrics in splits.items()
        for kind in kinds_of(metrics)
    ]


def own_rows(metrics: Mapping[str, Any]) -> list[list[Any]]:
    """Rows of OWN_HEADER for the metrics of your data."""
    return [
        [
            kind,
            *(metrics[kind]["png"][group]["average_recall"] for group in GROUPS),
            metrics[kind]["png"]["all"]["accuracy"],
        ]
        + [metrics[kind]["res"]["cIoU"], metrics[kind]["res"]["box_mIoU"], metrics[kind]["no_target"]["N_acc"]]
        + [metrics["phrases"]]
        for kind in kinds_of(metrics)
    ]


_OF_QUERIES = [(metric, name) for name in QUERIES for metric in ("gIoU", "cIoU")]


def reason_seg_rows(splits: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of REASON_SEG_HEADER for the metrics of several splits."""
    return [
        [split, kind, *(metrics[kind][name][metric] for metric, name in _OF_QUERIES)] + [metrics["images"]]
        for split, metrics in splits.items()
        for kind in kinds_of(metrics)
    ]


PNG_HEADER = ("masks", *(f"AR {g}" for g in GROUPS), "IoU>.5", "pixel acc", "box IoU", "box>.5", "phrases")
RES_HEADER = ("split", "masks", "cIoU", "mIoU", "box IoU", "box>.5", "expressions")
REASON_SEG_HEADER = ("split", "masks", *(f"{metric} {name}" for metric, name in _OF_QUERIES), "pictures")
OWN_HEADER = ("masks", *(f"AR {g}" for g in GROUPS), "IoU>.5", "cIoU", "box IoU", "N-acc", "phrases")
