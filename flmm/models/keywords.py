"""The keyword selector: which words of a text name something that can be seen (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flmm.constants import NO_PHRASE
from flmm.models.backbone import Reading
from flmm.models.functional import weigh_layers


class KeywordSelector(nn.Module):
    """Say of each token whether it belongs to a keyword: one linear layer on layer-weighted hidden states.

    Its layer weights are not those of SAM's text embeddings, which its loss leaves alone.

    Args:
        num_layers: L, layers of the LMM.
        hidden_size: D, width of the LMM.
        threshold: Least probability of a keyword.
        begins: Add a second logit, "a phrase begins here", which parts phrases that follow one another directly.
        pos_weight: Weight of keyword tokens in the loss; above 1 more words are selected.

    Example:
        >>> selector = KeywordSelector(num_layers=2, hidden_size=8)
        >>> selector(torch.zeros(2, 5, 8)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self, num_layers: int, hidden_size: int, threshold: float = 0.3, begins: bool = True, pos_weight: float = 1.0
    ):
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"keyword threshold {threshold}: it is a probability between 0 and 1")
        self.layer_weights = nn.Parameter(torch.ones(num_layers))
        self.classifier = nn.Linear(hidden_size, 1 + begins)
        self.threshold, self.pos_weight = threshold, pos_weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Score tokens.

        Args:
            hidden: [L, T, D] hidden states of the tokens of a text.

        Returns:
            [T, 1 or 2] logits: "belongs to a keyword" and, if asked for, "begins a phrase".
        """
        mean = weigh_layers(hidden, self.layer_weights)
        return self.classifier(mean.to(self.classifier.weight.dtype))

    def loss(self, readings: Sequence[Reading]) -> dict[str, Tensor]:
        """Compute the cross-entropy over all tokens of captions, and F1 at the threshold.

        Args:
            readings: What was read of captions, with `text`. None at all gives a loss of zero.

        Returns:
            `loss_keywords`, with `begins` also `loss_begins`, and `keywords_f1` (0..1, 1 without any).
        """
        device = self.layer_weights.device
        empty = torch.zeros(len(self.layer_weights), 0, self.classifier.in_features, device=device)
        logits = torch.cat([self(empty), *(self(reading.text) for reading in readings)]).float()
        phrases = [text_phrases(reading).to(device) for reading in readings]
        target = torch.cat([torch.zeros(0, device=device), *(ids >= 0 for ids in phrases)]).float()
        weight = torch.where(target > 0, self.pos_weight, 1.0)
        terms = {"loss_keywords": _mean_bce(logits[:, 0], target, weight)}
        if logits.shape[1] > 1:
            first = torch.cat([target[:0], *(phrase_begins(ids) for ids in phrases)]).float()
            terms["loss_begins"] = _mean_bce(logits[:, 1], first, target)
        found = logits[:, 0].sigmoid() > self.threshold
        either = found.sum() + target.sum()
        terms["keywords_f1"] = torch.where(either > 0, 2 * (found * target).sum() / either.clamp(min=1), 1.0)
        return terms

    @torch.no_grad()
    def phrases(self, hidden: Tensor, words: Sequence[int]) -> list[int]:
        """Select the phrases of a text.

        Args:
            hidden: [L, T, D].
            words: T indices of the word that each token belongs to (`flmm.datasets.words.words_of_tokens`).

        Returns:
            T indices of phrases, -1 for none.
        """
        scores = self(hidden).float().sigmoid()
        return select_phrases(scores[:, 0].tolist(), scores[:, -1].tolist(), words, self.threshold, self.begins)

    @property
    def begins(self) -> bool:
        """Tell whether it marks where a phrase begins."""
        return self.classifier.out_features > 1


def select_phrases(
    scores: Sequence[float], begins: Sequence[float], words: Sequence[int], threshold: float, cut: bool = True
) -> list[int]:
    """Join T tokens to phrases: a word counts as its best token, adjacent keywords are one phrase.

    Args:
        scores: T probabilities of a keyword.
        begins: T probabilities that a phrase begins.
        words: T indices of words, which count up.
        threshold: Least probability of a keyword.
        cut: Begin a new phrase at a word whose `begins` is above one half.

    Returns:
        T indices of phrases, numbered from 0, -1 for none.
    """
    best: dict[int, float] = {}
    first: dict[int, float] = {}
    for score, begin, word in zip(scores, begins, words, strict=True):
        best[word] = max(best.get(word, 0.0), score)
        first[word] = max(first.get(word, 0.0), begin)
    phrase_of: dict[int, int] = {}
    count, before = 0, False
    for word in best:
        inside = best[word] > threshold
        if inside:
            count += not before or (cut and first[word] > 0.5)
        phrase_of[word] = count - 1 if inside else NO_PHRASE
        before = inside
    return [phrase_of[word] for word in words]


def text_phrases(reading: Reading) -> Tensor:
    """Give the phrase of each token of `reading.text`, [T]."""
    assert reading.text is not None
    return reading.mask_ids[len(reading.mask_ids) - reading.text.shape[1] :]


def phrase_begins(phrases: Tensor) -> Tensor:
    """Mark the first token of each phrase, [T] bool, of their indices [T]."""
    before = torch.cat([torch.full_like(phrases[:1], NO_PHRASE), phrases[:-1]])
    return (phrases >= 0) & (phrases != before)


def is_caption(sample: dict[str, Any]) -> bool:
    """Say whether the words outside of the phrases of a sample are known to name nothing.

    Captions of Panoptic Narrative Grounding are such. In referring expressions every word belongs to a phrase: they
    would teach the selector to say yes to all.
    """
    return "mask_infos" in sample


def _mean_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    total = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return total / weight.sum().clamp(min=1)
