"""What the LMM says about a picture, with phrases that can be grounded where they were said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flmm.chat.phrases import noun_phrases
from flmm.datasets.phrases import NO_PHRASE, Span, find_phrases


@dataclass(frozen=True)
class Reply:
    """An answer of the LMM.

    Attributes:
        text: What it said.
        spans: T pairs (start, end): the characters of `text` that each token stands for.
        ground_tokens: Grounds phrases, given as characters and as tokens.
    """

    text: str
    spans: list[Span]
    ground_tokens: Callable[[list[Span], Tensor], Any]

    def __str__(self) -> str:
        return self.text

    def ground(self, phrases: Sequence[str | Span] | None = None) -> Any:
        """Finds phrases of the answer in the picture, by what their words attended to when they were said.

        Args:
            phrases: Words of the answer, or (start, end) character positions; its noun phrases when not given.

        Returns:
            A `flmm.Grounding`.

        Raises:
            ValueError: For an empty answer, a phrase that is not in it, phrases that overlap.
        """
        phrases = noun_phrases(self.text) if phrases is None else phrases
        found = find_phrases(self.text, phrases)
        return self.ground_tokens(found, phrase_of_tokens(self.spans, found))


def decode(tokenizer: Any, token_ids: Tensor) -> tuple[str, list[Span]]:
    """The text of T tokens, without special ones, and the characters (start, end) that each stands for."""
    ids = token_ids.tolist()
    texts = [tokenizer.decode(ids[:count], skip_special_tokens=True) for count in range(len(ids) + 1)]
    margin = len(texts[-1]) - len(texts[-1].lstrip())
    ends = [max(0, len(text) - margin) for text in texts]
    # a letter of several tokens: its later tokens add no character, and stand for the last one
    spans = [(max(0, min(start, end - 1)), end) for start, end in zip(ends, ends[1:], strict=False)]
    return texts[-1].strip(), spans


def phrase_of_tokens(spans: Sequence[Span], phrases: Sequence[Span]) -> Tensor:
    """[T] index of the phrase that each token shares characters with, -1 for none."""
    mask_ids = torch.full((len(spans),), NO_PHRASE)
    for phrase, (start, end) in enumerate(phrases):
        for token, (first, last) in enumerate(spans):
            if first < end and start < last:
                mask_ids[token] = phrase
    return mask_ids
