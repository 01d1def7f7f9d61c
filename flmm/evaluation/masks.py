"""From mask logits to the numbers that every metric is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


def binary_masks(logits: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Resizes probabilities bilinearly and keeps what is above a threshold.

    The probabilities are resized, not the logits: the reference does so, and outlines differ by some pixels.

    Args:
        logits: [M, h, w].
        size: (H, W) of the ground truth.
        threshold: Probability; one half in every metric.

    Returns:
        Boolean masks [M, H, W] on the device of `logits`.

    Raises:
        ValueError: When there is a NaN among them, which would pass for a pixel outside.
    """
    if count := int(logits.isnan().sum()):
        raise ValueError(
            f"{count} of {logits.numel()} mask logits are NaN: the LMM or SAM overflows in its dtype (float16?), or "
            "weights are damaged: load it in bfloat16 or float32"
        )
    probabilities = logits.float().sigmoid()
    if probabilities.shape[-2:] != tuple(size):
        probabilities = F.interpolate(probabilities[None], size=tuple(size), mode="bilinear")[0]
    return probabilities > threshold


@dataclass(frozen=True)
class MaskScores:
    """Agreement of M predicted masks with their ground truth.

    Attributes:
        intersection: [M] int64, pixels.
        union: [M] int64, pixels.
        pixel_accuracy: [M] float64, share of pixels that are right, 0..1.
    """

    intersection: Tensor
    union: Tensor
    pixel_accuracy: Tensor

    @property
    def iou(self) -> Tensor:
        """[M] float64, 0..1; an empty union has IoU 0, as in mmdet's RefSegMetric."""
        return self.intersection.double() / self.union.clamp(min=1)


def score_masks(masks: Tensor, targets: Tensor) -> MaskScores:
    """Compares boolean masks [M, H, W] with the ground truth [M, H, W].

    Raises:
        ValueError: When the shapes differ.
    """
    if masks.shape != targets.shape:
        raise ValueError(
            f"predicted masks are {tuple(masks.shape)}, the ground truth is {tuple(targets.shape)}: "
            "there must be one mask for each phrase, all of the picture's size"
        )
    masks, targets = masks.flatten(1).bool(), targets.flatten(1).bool()
    return MaskScores(
        intersection=(masks & targets).sum(1),
        union=(masks | targets).sum(1),
        pixel_accuracy=(masks == targets).double().mean(1),
    )


def to_list(values: Tensor | Sequence) -> list:
    """Plain numbers of a tensor or sequence."""
    return values.flatten().tolist() if isinstance(values, Tensor) else list(values)
