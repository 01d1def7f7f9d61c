"""Layer-weighted text embeddings: what SAM is told about a phrase besides its coarse mask."""

from collections.abc import Sequence

from torch import Tensor


def weigh_layers(hidden: Tensor, layer_weights: Tensor) -> Tensor:
    """Sums hidden states [L, T, D] over layers with softmax(`layer_weights` [L]) -> [T, D]."""
    weights = layer_weights.softmax(0)
    return (hidden.to(weights.dtype) * weights[:, None, None]).sum(0)


def split_by_phrase(embeddings: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """Splits [T_total, D] into M tensors [T, D]; `rows` as of `rows_by_phrase`."""
    return [embeddings[own] for own in rows]
