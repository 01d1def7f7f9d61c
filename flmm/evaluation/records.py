"""What an evaluation keeps of a sample, in one JSON file: phrases with scores and run-length coded masks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flmm.checkpoint import part_name, publish
from flmm.evaluation import binary_masks, box_iou, masks_to_boxes, score_masks
from flmm.masks import encode_mask

KINDS = {"refined": "sam_pred_masks", "coarse": "pred_masks"}
Record = dict[str, Any]


def phrase_records(sample: Mapping[str, Any], output: Mapping[str, Any]) -> list[Record]:
    """Scores of each phrase of a sample, for the refined and the coarse masks.

    Args:
        sample: A sample with `gt_masks` [M, H, W]; `phrases` and `mask_infos` are noted when it has them, as are
            each true mask, its `area` in pixels and its `mention`: how many phrases before it have the same mask.
        output: What the model gave in mode 'tensor'.
    """
    targets = torch.as_tensor(sample["gt_masks"]).bool()
    names = sample.get("phrases", [None] * len(targets))
    infos = sample.get("mask_infos", [{}] * len(targets))
    areas, mentions = targets.flatten(1).sum(1).tolist(), _mentions(targets)
    records = [
        {"phrase": name, **info, "area": area, "mention": mention, "truth": {"mask": encode_mask(target)}}
        for name, info, area, mention, target in zip(names, infos, areas, mentions, targets, strict=True)
    ]
    for kind, key in KINDS.items():
        if key in output:
            masks = binary_masks(output[key], (targets.shape[-2], targets.shape[-1])).cpu()
            for record, scores in zip(records, _scored(masks, targets), strict=True):
                record[kind] = scores
    return records


def _mentions(targets: Tensor) -> list[int]:
    """How many phrases before each of M phrases have the very same mask [M, H, W]."""
    seen: Counter[bytes] = Counter()
    mentions = []
    for target in targets:
        key = hashlib.sha256(target.numpy().tobytes()).digest()
        mentions.append(seen[key])
        seen[key] += 1
    return mentions


def _scored(masks: Tensor, targets: Tensor) -> list[Record]:
    scores, boxes = score_masks(masks, targets), masks_to_boxes(masks)
    columns = {
        "iou": scores.iou.tolist(),
        "intersection": scores.intersection.tolist(),
        "union": scores.union.tolist(),
        "pixel_accuracy": scores.pixel_accuracy.tolist(),
        "box": boxes.tolist(),
        "box_iou": box_iou(boxes, masks_to_boxes(targets)).tolist(),
        "mask": [encode_mask(mask) for mask in masks],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file under a temporary name, then renames it: it is there completely or not at all."""
    part = part_name(path)
    part.write_text(json.dumps(content))
    publish(part, path)


class RecordStore:
    """The folder of one evaluation: `run.json` says what is evaluated, `samples/<index>.json` its records.

    Args:
        folder: Made when it does not exist.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.samples = self.folder / "samples"
        self.samples.mkdir(parents=True, exist_ok=True)

    def claim(self, run: Mapping[str, Any], overwrite: bool = False) -> None:
        """Takes the folder for a run; one process does it for all.

        Args:
            run: What the records depend on.
            overwrite: Start afresh when the folder holds another run, or this one.

        Raises:
            ValueError: When the folder holds the records of another run.
        """
        note = self.folder / "run.json"
        if overwrite:
            note.unlink(missing_ok=True)
            for file in self.samples.iterdir():
                file.unlink()
        before = json.loads(note.read_text()) if note.is_file() else run
        differing = sorted(key for key in {*run, *before} if run.get(key) != before.get(key))
        if differing:
            changes = "; ".join(f"{key}: {before.get(key)} there, {run.get(key)} now" for key in differing)
            raise ValueError(
                f"{self.folder} holds the results of another run ({changes}): choose another --output, or "
                "replace them with --overwrite"
            )
        write_json(note, dict(run))

    def path(self, index: int) -> Path:
        """The file of a sample."""
        return self.samples / f"{index:06d}.json"

    def missing(self, count: int) -> list[int]:
        """Indices below `count` that have no record yet."""
        done = {int(file.stem) for file in self.samples.glob("[0-9]*.json")}
        return [index for index in range(count) if index not in done]

    def write(self, index: int, record: Record) -> None:
        """Keeps the record of a sample."""
        write_json(self.path(index), record)

    def read(self, count: int) -> list[Record]:
        """The records of the first `count` samples, in order, without their masks, which take most of the memory.

        Raises:
            RuntimeError: When one is missing.
            ValueError: When one is damaged.
        """
        if missing := self.missing(count):
            raise RuntimeError(f"{self.samples}: no record of {len(missing)} of {count} samples: {missing[:10]}")
        return [_parsed(self.path(index), _without_masks) for index in range(count)]

    def whole(self, index: int) -> Record:
        """The record of a sample with its masks (errors: `read`)."""
        return _parsed(self.path(index))


def read_records(folder: str | Path) -> list[Record]:
    """All records of a folder, in order, without their masks.

    Raises:
        FileNotFoundError: When it holds none.
        RuntimeError: When one is missing.
        ValueError: When one is damaged.
    """
    files = list(Path(folder, "samples").glob("[0-9]*.json"))
    if not files:
        raise FileNotFoundError(f"no records in {folder}: name a folder like OUTPUT/png_val.teacher_forced")
    return RecordStore(folder).read(len(files))


def _parsed(file: Path, hook: Callable[[Record], Record] | None = None) -> Record:
    try:
        return json.loads(file.read_text(), object_hook=hook)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it, and the same command makes it anew") from error


def _without_masks(found: Record) -> Record:
    return {key: found[key] for key in found if key not in ("mask", "truth")}
