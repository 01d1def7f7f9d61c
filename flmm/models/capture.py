"""Observes a decoder while it runs: attention of the phrase tokens to the image, and their hidden states.

The decoder keeps its fastest attention. Beside it, an attention function registered with transformers
computes the softmax rows of the phrase tokens only, so neither a map [A, S, S] nor a stack of hidden states
[L, S, D] is made. The reference asks for `output_attentions` instead, which needs eager attention and
O(L·A·S²) memory, and which some transformers releases answered with a dropped causal mask (docs/numerics.md).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "flmm_capture"


@dataclass
class Capture:
    """What one forward pass leaves behind.

    Attributes:
        rows: [T] positions of the observed tokens.
        keep: Maps the attention of one layer, [A, T, S], to whatever is worth keeping of it.
        implementation: The attention implementation that does the decoder's own work.
        attention: `keep(...)` of each layer, by layer index.
        hidden: [T, D] of each layer, by layer index; the last one after the final norm.
    """

    rows: Tensor
    keep: Callable[[Tensor], Any]
    implementation: str
    attention: dict[int, Any] = field(default_factory=dict)
    hidden: dict[int, Tensor] = field(default_factory=dict)


_active: ContextVar[Capture] = ContextVar(NAME)


@contextmanager
def capture(decoder: Any, rows: Tensor, keep: Callable[[Tensor], Any]) -> Iterator[Capture]:
    """Observes one forward pass of `decoder` over a batch of one without a cache.

    Args:
        decoder: A transformers decoder with `.layers`, `.norm` and `.config`.
        rows: [T] positions of the tokens to observe.
        keep: Called with the attention of each layer, [A, T, S] in the decoder's dtype, softmaxed in float32
            over all keys; its result is stored.

    Yields:
        The `Capture` that the forward pass fills.

    Raises:
        ValueError: When a layer did not pass through the registered attention function, or nothing ran.
    """
    config = decoder.config
    # eager is what transformers falls back to; its masks cost S x S floats and it is never the fastest
    implementation = "sdpa" if config._attn_implementation in (None, "eager") else config._attn_implementation
    captured = Capture(rows, keep, implementation)
    hooks = [
        layer.register_forward_hook(partial(_keep_hidden, captured, index))
        for index, layer in enumerate(decoder.layers[:-1])
    ]
    hooks.append(decoder.norm.register_forward_hook(partial(_keep_hidden, captured, len(decoder.layers) - 1)))
    previous, token = config._attn_implementation, _active.set(captured)
    config._attn_implementation = NAME
    try:
        yield captured
    finally:
        config._attn_implementation = previous
        _active.reset(token)
        for hook in hooks:
            hook.remove()
    if len(captured.attention) != len(decoder.layers):
        raise ValueError(
            f"{type(decoder).__name__}: {len(captured.attention)} of {len(decoder.layers)} layers passed through "
            "transformers' AttentionInterface; its attention modules must dispatch on config._attn_implementation"
        )


def attention_rows(query: Tensor, key: Tensor, mask: Tensor | None, rows: Tensor, scaling: float) -> Tensor:
    """Softmax attention of some query rows to all keys.

    Args:
        query: [1, A, S, d].
        key: [1, A_kv, S, d], A a multiple of A_kv.
        mask: None (causal), or [1, 1, S, S] boolean (True = visible) or additive, or [1, S] boolean padding.
        rows: [T] positions.
        scaling: Factor on the logits.

    Returns:
        [A, T, S] in the dtype of `query`; the softmax is taken in float32.
    """
    num_kv_heads, num_keys = key.shape[1], key.shape[2]
    query = query[0, :, rows].unflatten(0, (num_kv_heads, -1))  # [A_kv, A / A_kv, T, d]
    logits = (query @ key[0, :, None].transpose(-1, -2) * scaling).flatten(0, 1)  # [A, T, S]
    if mask is not None and mask.ndim == 4:
        mask = mask[0, 0, rows, :num_keys]
    else:
        visible = torch.arange(num_keys, device=rows.device) <= rows[:, None]
        mask = visible if mask is None else visible & mask[0, :num_keys].bool()
    logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(-1, dtype=torch.float32).to(query.dtype)


def _keep_hidden(captured: Capture, index: int, _module: nn.Module, _args: Any, output: Any) -> None:
    output = output[0] if isinstance(output, tuple) else output
    captured.hidden[index] = output[0, captured.rows]


def _capturing_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any):
    captured = _active.get()
    output = ALL_ATTENTION_FUNCTIONS[captured.implementation](module, query, key, value, mask, **kwargs)
    scaling = kwargs.get("scaling")
    weights = attention_rows(query, key, mask, captured.rows, query.shape[-1] ** -0.5 if scaling is None else scaling)
    captured.attention[module.layer_idx] = captured.keep(weights)
    return output


def _capturing_mask(*args: Any, **kwargs: Any) -> Any:
    return ALL_MASK_ATTENTION_FUNCTIONS[_active.get().implementation](*args, **kwargs)


AttentionInterface.register(NAME, _capturing_attention)
AttentionMaskInterface.register(NAME, _capturing_mask)
