"""Loss and quality of a set of mask logits, for the coarse and the refined masks alike."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from flmm.utils import compute_mask_IoU

Loss = Callable[..., Tensor]


def resize_ground_truth(masks: Tensor, like: Tensor) -> Tensor:
    """Resize ground-truth masks [M, H, W] by nearest neighbor to the size, dtype and device of `like`."""
    masks = masks.to(like.device)
    return F.interpolate(masks[None].float(), size=like.shape[-2:])[0].to(like)


def mask_losses(logits: Tensor, targets: Tensor, loss_mask: Loss, loss_dice: Loss) -> dict[str, Tensor]:
    """Compute losses and training metrics of M masks (paper section 3.3).

    Args:
        logits: [M, h, w]; half precision is left here, whose sums over a mask would lose digits, or overflow.
        targets: [M, h, w] in {0, 1}.
        loss_mask: Sigmoid BCE with an `avg_factor` (mmdet's CrossEntropyLoss).
        loss_dice: Naive dice with an `avg_factor` (mmdet's DiceLoss).

    Returns:
        Scalars `loss_mask`, `loss_dice`, and at threshold 0.5 `accuracy` (share of right pixels) and `aiou`
        (mean IoU).
    """
    flat, flat_targets = logits.float().flatten(1), targets.float().flatten(1)
    with torch.no_grad():
        binary = (flat.sigmoid() > 0.5).float()
        accuracy = (binary == flat_targets).float().mean()
        aiou = compute_mask_IoU(binary, flat_targets)[2].mean()
    return {
        "loss_mask": loss_mask(flat.flatten(), flat_targets.flatten(), avg_factor=flat.numel()),
        "loss_dice": loss_dice(flat, flat_targets, avg_factor=len(flat)),
        "accuracy": accuracy,
        "aiou": aiou,
    }


def average_over_masks(terms: list[dict[str, Tensor]], mask_counts: list[int]) -> dict[str, Tensor]:
    """Average the terms of several samples, weighted with their number of masks."""
    total = sum(mask_counts)
    weights = [count / total for count in mask_counts]
    return {key: torch.stack([w * t[key] for w, t in zip(weights, terms, strict=True)]).sum() for key in terms[0]}
