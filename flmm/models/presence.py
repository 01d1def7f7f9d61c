"""Whether a phrase speaks of something that is in the picture at all: how well the LMM itself would have said it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 256  # tokens whose words are compared at once: a vocabulary has up to 260,000


def word_support(
    vocabulary: Callable[[Tensor], Tensor], hidden: Tensor, token_ids: Tensor, phrase_ids: Tensor, count: int
) -> Tensor:
    """Measure how well the LMM would have gone on with the words of each phrase, seeing the picture.

    A token's support is its probability over that of the LMM's favorite at that place. A phrase has that of its least
    supported token: in "a green star" the word "green" where nothing is green, or "star" where only a circle is. Its
    first token has none, as it does not depend on the picture ("a", "the").

    Args:
        vocabulary: Maps hidden states [T, D] to logits [T, V].
        hidden: [T, D] last hidden states at the tokens of the phrases.
        token_ids: [T] these tokens.
        phrase_ids: [T] the phrase of each, 0..count-1; tokens of a phrase are neighbors.
        count: M phrases.

    Returns:
        [M] 0 (out of the question) to 1 (what the LMM would have said); 1 for a phrase of one token.
    """
    token_ids, phrase_ids = token_ids.to(hidden.device), phrase_ids.to(hidden.device)
    pairs = zip(hidden[:-1].split(CHUNK), token_ids[1:].split(CHUNK), strict=True)
    support = torch.cat([_support(vocabulary(states), said) for states, said in pairs])
    within = phrase_ids[1:] == phrase_ids[:-1]
    lowest = torch.ones(count, device=hidden.device)
    return lowest.scatter_reduce(0, phrase_ids[1:], torch.where(within, support, 1.0), "amin")


def _support(logits: Tensor, said: Tensor) -> Tensor:
    """Probability of what was said over that of the favorite: [T] of logits [T, V]."""
    logits = logits.float()
    return (logits.gather(1, said[:, None])[:, 0] - logits.amax(1)).exp()
