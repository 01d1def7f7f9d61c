"""The frozen LMM reads: samples or its own answer, in padded batches, and only what the pipeline needs is kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from flmm.models.attention_maps import finest_size, fold_rows, merge_rows
from flmm.models.backbone import Backbone, Reading, Tokens
from flmm.models.capture import capture

Sample = dict[str, Any]
Merge = Literal["mean", "max"]
# Inputs that can be padded on the right: no token sees a later one, so padding changes nothing.
PADDABLE = {"inputs_embeds", "position_ids"}


@dataclass(frozen=True)
class Answer:
    """What the LMM said about a picture, and what each of its words attended to.

    Attributes:
        token_ids: [T].
        attention: V tensors [L, A, T, h, w], softmaxed over all keys.
        hidden: [L, T, D].
        merge: How the rows of a phrase become one.
    """

    token_ids: Tensor
    attention: list[Tensor]
    hidden: Tensor
    merge: Merge

    def reading(self, mask_ids: Tensor) -> Reading:
        """What the pipeline needs of phrases of the answer; `mask_ids` [T] are as those of a sample."""
        rows = (mask_ids >= 0).nonzero().flatten()
        num_phrases = check_phrases(mask_ids)

        def merged(view: Tensor) -> Tensor:  # [L, A, T, h, w] -> [L, A, M, h, w]
            layers = (merge_rows(maps, mask_ids[rows], num_phrases, self.merge) for maps in view[:, :, rows])
            return torch.stack(list(layers))

        return Reading([merged(view) for view in self.attention], self.hidden[:, rows], mask_ids)


class Reader:
    """Runs a backbone and keeps what its phrase tokens attended to and became.

    Args:
        backbone: The frozen LMM.
        merge: How the attention rows of a phrase become one.
        max_tokens: Most tokens of one pass, padding included; one longer sample still gets a pass of its own.
    """

    def __init__(self, backbone: Backbone, merge: Merge, max_tokens: int):
        if merge not in ("mean", "max"):
            raise ValueError(f"merge={merge!r}, but rows of a phrase can be merged by 'mean' or 'max' only")
        self.backbone, self.merge, self.max_tokens = backbone, merge, max_tokens

    @torch.no_grad()
    def __call__(self, samples: list[Sample]) -> list[Reading]:
        """Reads samples, those of similar length together.

        Raises:
            ValueError: When a sample has no phrase, a phrase has no token, or a text is longer than the LMM's context.
        """
        tokens = [self.backbone.tokens(sample) for sample in samples]
        readings: dict[int, Reading] = {}
        for chosen in passes(tokens, self.max_tokens):
            readings |= zip(chosen, self.read([tokens[i] for i in chosen]), strict=True)
        return [readings[i] for i in range(len(samples))]

    @torch.no_grad()
    def read(self, batch: list[Tokens]) -> list[Reading]:
        """Reads a batch in one pass of the decoder."""
        decoder = self.backbone.decoder
        num_phrases = [check_phrases(tokens.mask_ids) for tokens in batch]
        check_length(max(len(tokens.mask_ids) for tokens in batch), decoder.config)

        def keep(weights: Tensor, index: int) -> list[Tensor]:  # [A, T, S] -> V x [A, M, h, w]
            mask_ids = batch[index].mask_ids
            phrase_ids = mask_ids[mask_ids >= 0].to(weights.device)
            maps = self._fold(weights, batch[index].views)
            merged = (merge_rows(view, phrase_ids, num_phrases[index], self.merge) for view in maps)
            return [view.to(self.backbone.device) for view in merged]  # layers may be on several devices

        rows = [(tokens.mask_ids >= 0).nonzero().flatten() for tokens in batch]
        with capture(decoder, rows, keep) as captured:
            decoder(**padded([tokens.inputs for tokens in batch]), use_cache=False)
        layers = range(self.backbone.num_layers)
        return [
            Reading(
                attention=[torch.stack(view) for view in zip(*(captured.attention[i][b] for i in layers), strict=True)],
                hidden=torch.stack([captured.hidden[i][b].to(self.backbone.device) for i in layers]),
                mask_ids=tokens.mask_ids,
            )
            for b, tokens in enumerate(batch)
        ]

    @torch.no_grad()
    def generate(self, sample: Sample, max_new_tokens: int, **kwargs: Any) -> Answer:
        """Lets the LMM answer, and keeps what it attended to while it did.

        Args:
            sample: A sample without a caption.
            max_new_tokens: Most tokens of the answer.
            **kwargs: Of transformers' `generate`.

        Raises:
            ValueError: When picture, prompt and answer are longer than the LMM's context.
        """
        tokens, decoder = self.backbone.tokens(sample), self.backbone.decoder
        prompt = len(tokens.mask_ids)
        check_length(prompt + max_new_tokens, decoder.config)

        def keep(weights: Tensor, index: int) -> list[Tensor]:  # [A, 1, S] -> V x [A, 1, h, w]
            if forgotten := prompt + index + 1 - weights.shape[-1]:  # by the cache of a sliding window
                weights = F.pad(weights, (forgotten, 0))
            return [view.to(self.backbone.device) for view in self._fold(weights, tokens.views)]

        with capture(decoder, None, keep) as captured:
            # one more than asked for: the last token is never read, so nothing is known of it
            ids = self.backbone.generate(sample, tokens, max_new_tokens=max_new_tokens + 1, **kwargs)[0]
        layers = range(self.backbone.num_layers)
        views = [
            torch.stack([torch.cat([step[v] for step in captured.attention[i]], dim=1) for i in layers])
            for v in range(len(tokens.views))
        ]
        hidden = torch.stack([torch.cat(captured.hidden[i]).to(self.backbone.device) for i in layers])
        return Answer(ids[: hidden.shape[1]], views, hidden, self.merge)

    def _fold(self, weights: Tensor, views: list[Tensor]) -> list[Tensor]:
        size = finest_size(views) if self.backbone.resize_before_merge else None
        return fold_rows(weights, [view.to(weights.device) for view in views], resize_to=size)


def passes(tokens: list[Tokens], max_tokens: int) -> Iterator[list[int]]:
    """Shares samples out to passes: indices of samples of similar length, at most `max_tokens` with padding."""
    chosen: list[int] = []
    for index in sorted(range(len(tokens)), key=lambda i: len(tokens[i].mask_ids)):
        if not set(tokens[index].inputs) <= PADDABLE:
            yield [index]
            continue
        if chosen and (len(chosen) + 1) * len(tokens[index].mask_ids) > max_tokens:
            yield chosen
            chosen = []
        chosen.append(index)
    if chosen:
        yield chosen


def padded(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """One batch of the inputs of several sequences, padded on the right; one sequence stays as it is."""
    if len(inputs) == 1:
        return inputs[0]
    length = max(one["inputs_embeds"].shape[1] for one in inputs)
    embeds = [F.pad(one["inputs_embeds"], (0, 0, 0, length - one["inputs_embeds"].shape[1])) for one in inputs]
    batch = {"inputs_embeds": torch.cat(embeds)}
    if "position_ids" in inputs[0]:
        batch["position_ids"] = torch.cat([_counted_on(one["position_ids"], length) for one in inputs], dim=-2)
    return batch


def _counted_on(position_ids: Tensor, length: int) -> Tensor:
    """[..., S] -> [..., length]; counting on, as a jump would tell transformers that a new sequence begins."""
    more = torch.arange(1, length - position_ids.shape[-1] + 1, device=position_ids.device)
    return torch.cat([position_ids, position_ids[..., -1:] + more], dim=-1)


def check_phrases(mask_ids: Tensor) -> int:
    """Number of phrases M of tokens [S], after checking that each of 0..M-1 has a token.

    Raises:
        ValueError: When there is no phrase, or one of them has no token.
    """
    found = set(mask_ids[mask_ids >= 0].tolist())
    missing = sorted(set(range(max(found, default=-1) + 1)) - found)
    if not found or missing:
        what = f"phrases {missing} have no token" if found else "no token belongs to a phrase"
        raise ValueError(f"{what}: mask_ids must name every phrase 0..M-1 at least once (was the text truncated?)")
    return len(found)


def check_length(length: int, config: Any) -> None:
    """ValueError when the LMM cannot read that many tokens."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and length > longest:
        raise ValueError(
            f"{length} tokens (picture, prompt and text), but the LMM reads at most {longest}: shorten the text, or "
            "let the processor make fewer image tokens"
        )
