"""Records, pictures and metrics of the visual chain-of-thought benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from flmm.chat.visual_cot import THINKING, VisualCoT
from flmm.datasets.images import as_picture
from flmm.datasets.visual_cot import Box, Item, is_box
from flmm.evaluation.answer_scores import mean_scores
from flmm.evaluation.boxes import box_iou
from flmm.evaluation.records import Record, encode_mask

FOUND, TRUE = (230, 30, 30), (40, 170, 60)


def cot_records(cot: VisualCoT, version: str, pictures: str | Path, items: Sequence[tuple[Item, Path]]) -> list[Record]:
    """Answer questions, and draw a picture of each.

    Args:
        cot: Answers them.
        version: In which way.
        pictures: Folder of the drawings, one for each item; made when it does not exist.
        items: Questions and their picture files.

    Returns:
        The reference's keys (thought, box, gt_bbox, answer, question_id, question, image, gt), and the `mask`.

    Raises:
        ValueError: When a question cannot be answered; names its file and number.
    """
    Path(pictures).mkdir(parents=True, exist_ok=True)
    records = []
    for item, file in items:
        try:
            image = as_picture(file)
            chain = cot(image, item.question, version, item.true_box, seed=item.question_id)
        except ValueError as error:
            raise ValueError(f"{item.subset}, question {item.question_id} ({file}): {error}") from error
        drawing = draw(image, chain.box, item.true_box, chain.mask)
        drawing.save(Path(pictures, f"{item.question_id:06d}.jpg"), quality=90)
        records.append(
            {
                "thought": chain.thought,
                "box": list(chain.box),
                "gt_bbox": list(item.box),
                "answer": chain.answer,
                "question_id": item.question_id,
                "question": item.question,
                "image": item.image,
                "gt": item.answer,
                "mask": None if chain.mask is None else encode_mask(torch.from_numpy(chain.mask)),
            }
        )
    return records


def draw(image: Image.Image, box: Box, true_box: Box | None, mask: np.ndarray | None) -> Image.Image:
    """Draw the mask and box that were looked at in red, and the true box in green."""
    pixels = np.asarray(image).copy()
    if mask is not None and mask.shape == pixels.shape[:2]:
        pixels[mask] = pixels[mask] // 2 + np.array(FOUND, dtype=np.uint8) // 2
    drawn = Image.fromarray(pixels)
    pen = ImageDraw.Draw(drawn)
    for edges, color in ((true_box, TRUE), (box, FOUND)):
        if edges is not None:
            x0, y0, x1, y1 = edges
            pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=color, width=2)
    return drawn


def cot_metrics(records: Sequence[Record], version: str) -> dict[str, Any]:
    """Score answers, and the boxes of versions that find them, in percent.

    Args:
        records: Of `cot_records`.
        version: The version.

    Returns:
        `items`, scores of the answers, and with v1 and v2 `box_iou`, `box_acc50` (IoU > 0.5), `pointing` (the middle
        of the box is in the true one) and `boxes`, the number of items whose true box is one.
    """
    answers, truths = ([record[key] for record in records] for key in ("answer", "gt"))
    metrics: dict[str, Any] = {"items": len(records), **mean_scores(answers, truths)}
    if version in THINKING:
        pairs = [(record["box"], record["gt_bbox"]) for record in records if is_box(record["gt_bbox"])]
        metrics |= box_scores(pairs)
    return metrics


def box_scores(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> dict[str, Any]:
    """Compute mean IoU, share of IoU > 0.5, and pointing, in percent, of pairs of boxes (found, true)."""
    if not pairs:
        return {"box_iou": None, "box_acc50": None, "pointing": None, "boxes": 0}
    found, true = (torch.tensor(boxes, dtype=torch.float) for boxes in zip(*pairs, strict=True))
    ious = box_iou(found, true)
    middle = (found[:, :2] + found[:, 2:]) / 2
    inside = ((middle >= true[:, :2]) & (middle <= true[:, 2:])).all(1)
    shares = {"box_iou": ious, "box_acc50": (ious > 0.5).double(), "pointing": inside.double()}
    return {name: 100 * float(values.mean()) for name, values in shares.items()} | {"boxes": len(pairs)}
