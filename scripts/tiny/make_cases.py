"""Writes twenty cases about the shapes data set for `flmm cases`: make_cases.py --data-root data/shapes.

Questions and answers come from the data set's questions file, boxes from its panoptic annotations.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flmm.evaluation.records import write_json

WORDS = {"yes": "no", "no": "yes"}  # what must not be said instead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default="data/shapes", help="folder of the data set [%(default)s]")
    parser.add_argument("--count", type=int, default=20, help="cases [%(default)s]")
    parser.add_argument("--out", type=Path, help="manifest to write [DATA_ROOT/cases.json]")
    args = parser.parse_args()
    out = args.out or args.data_root / "cases.json"
    root = Path(os.path.relpath(args.data_root, out.parent))  # pictures are named relative to the manifest
    write_json(out, {"schema_version": "1.0", "samples": list(shape_cases(args.data_root, args.count, root))})
    print(f"{out}: {args.count} cases")


def shape_cases(data_root: Path, count: int, prefix: Path) -> Iterator[dict[str, Any]]:
    """Cases of as many kinds of questions as there are, a picture for each."""
    annotations = data_root / "annotations"
    content = json.loads((annotations / "questions_val2017.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    boxes = segment_boxes(json.loads((annotations / "panoptic_val2017.json").read_text()))
    for question in spread(content["questions"], count):
        answer = question["answer"]
        yield {
            "id": f"{question['question_id']:04d}_{question['kind']}",
            "image_path": str(prefix / "val2017" / names[question["image_id"]]),
            "question": question["question"],
            "answer_contains": [answer],
            "answer_not_contains": [WORDS[answer]] if answer in WORDS else [],
            "expected_bbox": None if answer in WORDS else union([boxes[one] for one in question["segment_ids"]]),
            "enable_roi": question["kind"] == "sign",
            "notes": f"a question about {question['kind']}",
        }


def spread(questions: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Questions of all kinds in turn, each of another picture; ValueError when there are too few."""
    kinds = sorted({question["kind"] for question in questions})
    chosen: list[dict[str, Any]] = []
    used: set[Any] = set()
    for turn in range(count):
        kind = kinds[turn % len(kinds)]
        fitting = (one for one in questions if one["kind"] == kind and one["image_id"] not in used)
        question = next(fitting, None) or next((one for one in questions if one["image_id"] not in used), None)
        if question is None:
            raise ValueError(f"{len(used)} pictures with questions, but {count} cases are wanted: make more pictures")
        chosen.append(question)
        used.add(question["image_id"])
    return chosen


def segment_boxes(panoptic: dict[str, Any]) -> dict[str, list[float]]:
    """x0, y0, x1, y1 of each segment."""
    boxes = {}
    for segment in (one for image in panoptic["annotations"] for one in image["segments_info"]):
        x, y, width, height = segment["bbox"]
        boxes[str(segment["id"])] = [x, y, x + width, y + height]
    return boxes


def union(boxes: list[list[float]]) -> list[float] | None:
    """The box around boxes; None of none."""
    if not boxes:
        return None
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return [min(x0), min(y0), max(x1), max(y1)]


if __name__ == "__main__":
    main()
