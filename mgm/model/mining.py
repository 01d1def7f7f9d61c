"""Patch-info mining: each CLIP token looks for detail in its own patch of the ConvNeXt features."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


def patches_of(features: Tensor, side: int) -> Tensor:
    """Cuts [B, C, H, W] into side x side patches: [B, side², p², C] with p = H / side."""
    cut = features.unflatten(3, (side, -1)).unflatten(2, (side, -1))  # [B, C, side, p, side, p]
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


def mine(tokens: Tensor, features: Tensor, query: nn.Module, key: nn.Module, value: nn.Module) -> Tensor:
    """Attends from each token to the features of its patch.

    Args:
        tokens: [B, side², C] of CLIP.
        features: [B, C', H, W] of ConvNeXt over the same picture.
        query: Maps C to C.
        key: Maps C' to C.
        value: Maps C' to C.

    Returns:
        [B, side², C], what to add to the tokens.
    """
    patches = patches_of(features, math.isqrt(tokens.shape[1]))
    found = F.scaled_dot_product_attention(query(tokens)[:, :, None], key(patches), value(patches))
    return found[:, :, 0]
