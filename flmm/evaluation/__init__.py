"""Metrics as accumulators: `update` with numbers of phrases, `merge` those of other processes, `compute`.

Sums are exact (`math.fsum`), so the result does not depend on the order of samples or on how many processes
shared them.
"""

from flmm.boxes import masks_to_boxes
from flmm.evaluation.boxes import BoxMetric, box_iou
from flmm.evaluation.masks import MaskScores, binary_masks, score_masks
from flmm.evaluation.png import PNGMetric, average_recall
from flmm.evaluation.res import RESMetric

__all__ = [
    "BoxMetric",
    "MaskScores",
    "PNGMetric",
    "RESMetric",
    "average_recall",
    "binary_masks",
    "box_iou",
    "masks_to_boxes",
    "score_masks",
]
