"""Observe a decoder while it runs: attention of the phrase tokens to the image, and their hidden states.

The decoder keeps its fastest attention. Beside it, an attention function registered with transformers
computes the softmax rows of the phrase tokens only, so neither a map [A, S, S] nor a stack of hidden states
[L, S, D] is made. The reference asks for `output_attentions` instead, which needs eager attention and
O(L·A·S²) memory, and which some transformers releases answered with a dropped causal mask (docs/numerics.md).
"""

import sys
import threading
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


# What a decoder calls the norm behind its last layer.
_NORMS = ("norm", "embedding_norm", "final_layernorm", "norm_f")
# Kinds of layers without softmax attention: convolutions (LFM2), linear attention, state spaces, experts (Nemotron-H).
_WITHOUT_ATTENTION = {"conv", "linear_attention", "mamba", "moe", "mlp"}

Keep = Callable[[Tensor, int], Any]
Rows = list[Tensor] | None


@dataclass
class Capture:
    """Attention and hidden states kept from passes of a decoder over B sequences.

    Attributes:
        rows: B tensors [T] of positions: the observed tokens. None observes the newest token of each sequence, in every
            pass over one token (generation with a cache).
        hidden_rows: As `rows`, the tokens whose hidden states are kept.
        keep: Maps the attention of one layer, [A, T, S], and the index of the sequence in the batch (or, while
            generating, of the new token) to whatever is worth keeping.
        implementation: The attention implementation that does the decoder's own work.
        attention: By layer index, what was kept of each sequence; while generating, of each new token.
        hidden: By layer index, [T, D] of each sequence or new token; the last layer's after the final norm.
    """

    rows: Rows
    hidden_rows: Rows
    keep: Keep
    implementation: str
    attention: dict[int, list[Any]] = field(default_factory=dict)
    hidden: dict[int, list[Tensor]] = field(default_factory=dict)

    def observed(self, num_queries: int, device: torch.device) -> list[Tensor | None]:
        """What to observe in a pass: rows of each sequence; the newest token (None), but nothing of the prompt."""
        if self.rows is not None:
            return [rows.to(device) for rows in self.rows]
        return [None] if num_queries == 1 else []


_active: ContextVar[Capture] = ContextVar(NAME)
# A decoder's config says which attention it uses, to all threads: one of them captures at a time.
_capturing = threading.RLock()


def undisturbed() -> threading.RLock:  # type: ignore[valid-type]  # RLock is a function to typeshed of 3.11
    """Return what to hold while a decoder runs without `capture`: another thread that captures would observe it."""
    return _capturing


@contextmanager
def capture(decoder: Any, rows: Rows, keep: Keep, hidden_rows: Rows = None) -> Iterator[Capture]:
    """Observe `decoder`: one pass over a batch without a cache, or generation.

    Args:
        decoder: A transformers decoder with `.layers`, a final norm and `.config`.
        rows: B tensors [T] of positions of the tokens to observe; None while one sequence is generated.
        keep: Called with the attention of each layer and sequence, [A, T, S] in the decoder's dtype, softmaxed
            in float32 over all keys, and the index of the sequence or new token; its result is stored.
        hidden_rows: Positions of the tokens whose hidden states are kept; by default those of `rows`.

    Yields:
        The `Capture` that the passes fill.

    Raises:
        ValueError: When a layer did not pass through the registered attention function, or nothing ran.
    """
    with _capturing:
        config = decoder.config
        captured = Capture(rows, rows if hidden_rows is None else hidden_rows, keep, implementation(decoder))
        hooks = [
            layer.register_forward_hook(partial(_keep_hidden, captured, index))
            for index, layer in enumerate(decoder.layers[:-1])
        ]
        last = partial(_keep_hidden, captured, len(decoder.layers) - 1)
        hooks.append(final_norm(decoder).register_forward_hook(last))
        previous, token = config._attn_implementation, _active.set(captured)
        config._attn_implementation = NAME
        try:
            yield captured
        finally:
            config._attn_implementation = previous
            _active.reset(token)
            for hook in hooks:
                hook.remove()
        if sorted(captured.attention) != (attending := attending_layers(decoder)):
            raise ValueError(
                f"{type(decoder).__name__}: {len(captured.attention)} of {len(attending)} layers passed through "
                "transformers' AttentionInterface; its attention modules must dispatch on config._attn_implementation"
            )


def implementation(decoder: Any) -> str:
    """Return the name of the attention implementation that a decoder runs with.

    Eager is what transformers falls back to: its maps cost S x S floats, and it is never the fastest. Only decoders
    that sdpa cannot run keep it (soft caps of Gemma 2, learned sinks).
    """
    name = decoder.config._attn_implementation or "eager"
    return "sdpa" if name == "eager" and getattr(decoder, "_supports_sdpa", True) else name


def final_norm(decoder: Any) -> Any:
    """Return the norm behind the last layer of a decoder; None when no known one is there."""
    return next((getattr(decoder, name) for name in _NORMS if hasattr(decoder, name)), None)


def attending_layers(decoder: Any) -> list[int]:
    """Return indices of the layers with softmax attention; other layers of hybrid decoders give no map."""
    kinds = getattr(decoder.config, "layer_types", None) or []
    others = {index for index, kind in enumerate(kinds) if kind in _WITHOUT_ATTENTION}
    return [index for index in range(len(decoder.layers)) if index not in others]


def attention_rows(
    query: Tensor, key: Tensor, mask: Tensor | None, rows: Tensor | None, scaling: float, window: int | None = None
) -> Tensor:
    """Compute softmax attention of some tokens of a sequence to all keys.

    Args:
        query: [A, Q, d], of the last Q tokens.
        key: [A_kv, S, d], A a multiple of A_kv; S > Q with a cache.
        mask: None (causal), or [Q, S] boolean (True = visible) or additive, or [S] boolean padding.
        rows: [T] positions among the S; None for the newest token, the only query, which sees all keys.
        scaling: Factor on the logits.
        window: Keys that a token sees at most, where no mask [Q, S] says so (flash attention).

    Returns:
        [A, T, S] in the dtype of `query`; the softmax is taken in float32.
    """
    num_kv_heads, num_keys = key.shape[0], key.shape[1]
    if mask is not None:
        mask = mask[..., :num_keys] if mask.ndim == 2 else mask[:num_keys].bool()
    if window is not None and window >= num_keys:
        window = None
    if rows is None and window is not None and mask is None:
        rows = torch.tensor([num_keys - 1], device=key.device)
    if rows is not None:
        queries = rows - (num_keys - query.shape[1])
        query = query[:, queries]
        if mask is not None and mask.ndim == 2:
            mask = mask[queries]
        else:
            past = rows[:, None] - torch.arange(num_keys, device=rows.device)
            visible = past >= 0 if window is None else (past >= 0) & (past < window)
            mask = visible if mask is None else visible & mask
    query = query.unflatten(0, (num_kv_heads, -1))  # [A_kv, A / A_kv, T, d]
    logits = (query @ key[:, None].transpose(-1, -2) * scaling).flatten(0, 1)  # [A, T, S]
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(-1, dtype=torch.float32).to(query.dtype)


def _keep_hidden(captured: Capture, index: int, _module: nn.Module, _args: Any, output: Any) -> None:
    output = output[0] if isinstance(output, tuple) else output
    if captured.hidden_rows is not None:
        rows = zip(output, captured.hidden_rows, strict=True)
        captured.hidden[index] = [tokens[own.to(tokens.device)] for tokens, own in rows]
    elif output.shape[1] == 1:
        captured.hidden.setdefault(index, []).append(output[0])


def _capturing_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any):
    captured = _active.get()
    _check_observable(captured, query, mask)
    if captured.implementation == "eager":
        return _eager(captured, module, query, key, value, mask, **kwargs)
    _check_reproducible(captured, kwargs)
    output = ALL_ATTENTION_FUNCTIONS[captured.implementation](module, query, key, value, mask, **kwargs)
    scaling = kwargs.get("scaling")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    kept = captured.attention.setdefault(module.layer_idx, [])
    for index, rows in enumerate(captured.observed(query.shape[2], key.device)):
        own_mask = None if mask is None else mask[min(index, len(mask) - 1)]
        if own_mask is not None and own_mask.ndim == 3:
            own_mask = own_mask[0]  # the same for all heads
        weights = attention_rows(query[index], key[index], own_mask, rows, scaling, kwargs.get("sliding_window"))
        kept.append(captured.keep(weights, len(kept)))
    return output


def _eager(captured: Capture, module: Any, query: Tensor, *given: Any, **kwargs: Any) -> Any:
    """Run the attention of the decoder's file, and keep rows of the maps that it returns."""
    function = sys.modules[type(module).__module__].eager_attention_forward  # transformers' name for it in every file
    output, weights = function(module, query, *given, **kwargs)
    kept = captured.attention.setdefault(module.layer_idx, [])
    for index, rows in enumerate(captured.observed(query.shape[2], query.device)):
        chosen = slice(-1, None) if rows is None else rows - (weights.shape[-1] - weights.shape[-2])
        kept.append(captured.keep(weights[index][:, chosen].to(query.dtype), len(kept)))
    return output, weights


def _check_reproducible(captured: Capture, kwargs: dict[str, Any]) -> None:
    for name in ("softcap", "s_aux"):
        if kwargs.get(name) is not None:
            raise ValueError(
                f"{captured.implementation} attention with {name} cannot be observed: load the LMM with "
                "attn_implementation='eager'"
            )


def _check_observable(captured: Capture, query: Tensor, mask: Any) -> None:
    if not isinstance(mask, Tensor | None):
        raise ValueError(
            f"{captured.implementation} attention has a {type(mask).__name__} for a mask, which cannot be observed: "
            "load the LMM with attn_implementation='sdpa'"
        )
    if captured.rows is None and len(query) > 1:
        raise ValueError(f"{len(query)} answers at a time: num_beams and num_return_sequences must be 1")


def _capturing_mask(*args: Any, **kwargs: Any) -> Any:
    return ALL_MASK_ATTENTION_FUNCTIONS[_active.get().implementation](*args, **kwargs)


AttentionInterface.register(NAME, _capturing_attention)
AttentionMaskInterface.register(NAME, _capturing_mask)
