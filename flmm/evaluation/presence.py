"""Whether a phrase speaks of something that is in the picture at all, and how well a score tells that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def word_support(logits: Tensor, token_ids: Tensor, phrase_ids: Tensor, count: int) -> Tensor:
    """How well the LMM itself would have gone on with the words of each phrase, seeing the picture.

    A token's support is its probability over that of the LMM's favorite at that place. A phrase has that of its least
    supported token: in "a green star" the word "green" where nothing is green, or "star" where only a circle is. Its
    first token has none, as it does not depend on the picture ("a", "the").

    Args:
        logits: [T, V] what the LMM expects after each token of the phrases.
        token_ids: [T] these tokens.
        phrase_ids: [T] the phrase of each, 0..count-1; tokens of a phrase are neighbors.
        count: M phrases.

    Returns:
        [M] 0 (out of the question) to 1 (what the LMM would have said); 1 for a phrase of one token.
    """
    expected = logits[:-1].float().log_softmax(-1)
    said = expected.gather(1, token_ids[1:, None].to(expected.device))[:, 0]
    support = (said - expected.amax(1)).exp()
    within = (phrase_ids[1:] == phrase_ids[:-1]).to(expected.device)
    lowest = torch.ones(count, device=expected.device)
    phrases = phrase_ids[1:].to(expected.device)[within]
    return lowest.scatter_reduce(0, phrases, support[within], "amin")


def area_under_curve(present: Sequence[float], absent: Sequence[float]) -> float:
    """Return the share of pairs in which what is present has the higher score, 0..1; equal scores count half.

    Args:
        present: Scores of what is in its picture.
        absent: Scores of what is not.

    Raises:
        ValueError: One of them is empty.
    """
    if not len(present) or not len(absent):
        raise ValueError(f"{len(present)} present and {len(absent)} absent scores: give at least one of each")
    ones, others = np.asarray(present)[:, None], np.asarray(absent)[None]
    return float((ones > others).mean() + (ones == others).mean() / 2)
