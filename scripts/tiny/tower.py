"""The vision tower in training: pictures to pixel values, features, batches, and the attention that suits CPUs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface


class Pixels:
    """uint8 pictures [N, H, W, 3] to normalized float tensors [N, 3, H, W]."""

    def __init__(self, mean: list[float], std: list[float], device: torch.device | str = "cpu") -> None:
        self.mean, self.std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102
        return (images.permute(0, 3, 1, 2) / 255 - self.mean) / self.std


def read_patches(tower: nn.Module, pixel_values: Tensor) -> Tensor:
    """Patch features of the last layer but one, [N, h * w, D]; LLaVA ignores the last, so it is not run."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixel_values))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None)
    return hidden[:, 1:]


def lean_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    prefix: int = 0,
    rows: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Plain attention: on a CPU its backward pass is several times faster than sdpa's.

    With `rows`, an additive mask [B, 1, R, T, T], the sequence is a prefix followed by R rows of T tokens that
    see the prefix and what the mask lets them see of their row: many texts about one picture at the price of one.
    """
    with torch.autocast("cpu", enabled=False):
        query, key = (query * scaling).to(value.dtype), key.to(value.dtype)  # the rotation left float32
        if not module.is_causal:
            out = _attend(query, key, value)
        elif rows is None:
            out = _attend(query, key, value, causal=True)
        else:
            first = _attend(query[:, :, :prefix], key[:, :, :prefix], value[:, :, :prefix], causal=True)
            out = torch.cat([first, _attend_rows(query, key, value, prefix, rows)], dim=2)
        return out.transpose(1, 2), None


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    scores = query @ key.transpose(2, 3)
    if causal:
        scores += torch.full(scores.shape[2:], -math.inf, dtype=scores.dtype, device=scores.device).triu(1)
    return scores.softmax(-1) @ value


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, prefix: int, mask: Tensor) -> Tensor:
    batch, heads, _, width = query.shape
    count, length = mask.shape[2:4]
    shape = (batch, heads, count, length, width)
    q, k, v = (t[:, :, prefix:].reshape(shape) for t in (query, key, value))
    far = (q.flatten(2, 3) @ key[:, :, :prefix].transpose(2, 3)).view(*shape[:4], prefix)
    near = q @ k.transpose(3, 4) + mask.to(q.dtype)
    weights = torch.cat([far, near], dim=-1).softmax(-1)
    out = (weights[..., :prefix].flatten(2, 3) @ value[:, :, :prefix]).view(shape)
    return (out + weights[..., prefix:] @ v).flatten(2, 3)


def draw(half: int, wide: int, close: int, seed: int, step: int) -> np.ndarray:
    """Indices of a step's pictures in a pool: whole ones of the first `half`, close-ups of the second."""
    rng = np.random.default_rng([seed, step])
    return np.concatenate([rng.choice(half, wide, replace=False), half + rng.choice(half, close, replace=False)])


def update(loss: Tensor, optimizer: torch.optim.Optimizer, factor: float, rates: list[float]) -> None:
    """One step with clipped gradients at `factor` times the rates of the parameter groups."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = factor * rate
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()


AttentionInterface.register("lean", lean_attention)
