"""Layer-weighted text embeddings: what SAM is told about a phrase besides its coarse mask."""

from torch import Tensor


def weigh_layers(hidden: Tensor, layer_weights: Tensor) -> Tensor:
    """Sums hidden states [L, T, D] over layers with softmax(`layer_weights` [L]) -> [T, D]."""
    weights = layer_weights.softmax(0)
    return (hidden.to(weights.dtype) * weights[:, None, None]).sum(0)


def split_by_phrase(embeddings: Tensor, phrase_ids: Tensor, num_phrases: int) -> list[Tensor]:
    """Splits rows [T_total, D] into M tensors [T, D] by `phrase_ids` [T_total]."""
    return [embeddings[phrase_ids == m] for m in range(num_phrases)]
