"""Run the frozen LMM on samples or on its answer, in padded batches, and keep only what the pipeline needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from flmm.constants import IGNORE_INDEX
from flmm.models.backbone import Backbone, Reading, Tokens, check_length, check_phrases
from flmm.models.capture import capture, undisturbed
from flmm.models.functional import finest_size, fold_rows, merge_rows, rows_by_phrase
from flmm.models.packing import Sample, pack, same_picture, text_length

Merge = Literal["mean", "max"]
# Inputs that can be padded on the right: no token sees a later one, so padding changes nothing.
PADDABLE = {"inputs_embeds", "position_ids"}


@dataclass(frozen=True)
class Answer:
    """Answer of the LMM about its pictures, with the attention of each of its tokens.

    Attributes:
        token_ids: [T].
        attention: V tensors [L, A, T, h, w] for each picture, softmaxed over all keys.
        hidden: [L, T, D].
        merge: How the rows of a phrase become one.
        next_id: The token after the last one, which the LMM chose but did not read; None when it is not known.
    """

    token_ids: Tensor
    attention: list[Tensor]
    hidden: Tensor
    merge: Merge
    next_id: int | None = None

    @property
    def num_bytes(self) -> int:
        """Return the bytes of the answer in memory."""
        return sum(part.nbytes for part in (*self.attention, self.hidden))

    def reading(self, mask_ids: Tensor) -> Reading:
        """Return the Reading of phrases of the answer; `mask_ids` [T] are as in a sample."""
        rows = (mask_ids >= 0).nonzero().flatten()
        check_phrases(mask_ids)
        by_phrase = rows_by_phrase(mask_ids[rows])

        def merged(view: Tensor) -> Tensor:  # [L, A, T, h, w] -> [L, A, M, h, w]
            return torch.stack([merge_rows(maps, by_phrase, self.merge) for maps in view[:, :, rows]])

        return Reading([merged(view) for view in self.attention], self.hidden[:, rows], mask_ids)


class Reader:
    """Run a backbone, and keep attention and hidden states of the phrase tokens.

    Args:
        backbone: The frozen LMM.
        merge: How the attention rows of a phrase become one.
        max_tokens: Most tokens of one pass, padding included; one longer sample still gets a pass of its own.
        keep_text: Keep the hidden states of all tokens of a text, not of its phrases alone (`Reading.text`).
    """

    def __init__(self, backbone: Backbone, merge: Merge, max_tokens: int, keep_text: bool = False):
        if merge not in ("mean", "max"):
            raise ValueError(f"merge={merge!r}, but rows of a phrase can be merged by 'mean' or 'max' only")
        self.backbone, self.merge, self.max_tokens, self.keep_text = backbone, merge, max_tokens, keep_text

    @torch.no_grad()
    def __call__(self, samples: list[Sample]) -> list[Reading]:
        """Read samples: those of the same picture as one sequence, others of similar length in one pass.

        Raises:
            ValueError: When a sample has no phrase, a phrase has no token, or a text is longer than the LMM's context.
        """
        readings: dict[int, Reading] = {}
        single: dict[int, Tokens] = {}
        for group in same_picture(samples, self.max_tokens):
            packed = pack(self.backbone, [samples[i] for i in group]) if len(group) > 1 else None
            if packed is None:
                single |= {i: self.tokens(samples[i]) for i in group}
            else:
                (reading,) = self.read([packed.tokens], [sum(packed.lengths)])
                readings |= zip(group, packed.unpack(reading), strict=True)
        for chosen in passes(single, self.max_tokens):
            lengths = [text_length(samples[i]) for i in chosen]
            readings |= zip(chosen, self.read([single[i] for i in chosen], lengths), strict=True)
        return [readings[i] for i in range(len(samples))]

    def tokens(self, sample: Sample) -> Tokens:
        """Return the checked input of the LMM for a sample."""
        tokens = self.backbone.tokens(sample)
        check_phrases(tokens.mask_ids)
        check_length(len(tokens.mask_ids), self.backbone.max_length)
        return tokens

    @torch.no_grad()
    def read(self, batch: list[Tokens], lengths: list[int]) -> list[Reading]:
        """Read a batch in one pass of the decoder; `lengths` are those of the texts at the end of the sequences."""
        decoder = self.backbone.decoder
        rows = [(tokens.mask_ids >= 0).nonzero().flatten() for tokens in batch]
        texts = [text_rows(tokens.mask_ids, n) for tokens, n in zip(batch, lengths, strict=True)]
        kept = [torch.cat(own).unique() for own in zip(rows, texts, strict=True)] if self.keep_text else rows
        by_phrase = [rows_by_phrase(tokens.mask_ids[own]) for tokens, own in zip(batch, rows, strict=True)]

        def keep(weights: Tensor, index: int) -> list[Tensor]:  # [A, T, S] -> V x [A, M, h, w]
            phrases = [own.to(weights.device) for own in by_phrase[index]]  # layers may be on several devices
            maps = self._fold(weights, batch[index].views)
            return [merge_rows(view, phrases, self.merge).to(self.backbone.device) for view in maps]

        with capture(decoder, rows, keep, kept) as captured:
            decoder(**padded([tokens.inputs for tokens in batch]), use_cache=False)
        layers, readings = range(self.backbone.num_layers), []
        for b, tokens in enumerate(batch):
            views = zip(*(captured.attention[i][b] for i in self.backbone.attending), strict=True)
            hidden = torch.stack([captured.hidden[i][b].to(self.backbone.device) for i in layers])
            text = hidden[:, torch.isin(kept[b], texts[b])] if self.keep_text else None
            hidden = hidden[:, torch.isin(kept[b], rows[b])] if self.keep_text else hidden
            readings.append(Reading([torch.stack(view) for view in views], hidden, tokens.mask_ids, text))
        return readings

    @torch.no_grad()
    def log_probs(self, sample: Sample) -> Tensor:
        """Compute how probable the LMM finds a text that it reads.

        Args:
            sample: A sample whose text has labels and follows its prompt.

        Returns:
            [T] natural logarithm of the probability of each token of the text, given all that precedes it.
        """
        tokens, labels = self.backbone.tokens(sample), sample["labels"]
        check_length(len(tokens.mask_ids), self.backbone.max_length)
        ids = labels[labels != IGNORE_INDEX].to(self.backbone.device)
        with undisturbed():
            hidden = self.backbone.decoder(**tokens.inputs, use_cache=False).last_hidden_state[0, -len(ids) - 1 : -1]
        logits = self.backbone.vocabulary(hidden).float()
        return logits.log_softmax(-1).gather(1, ids[:, None].to(logits.device))[:, 0]

    def kept_bytes(self, tokens: Tokens, num_tokens: int) -> int:
        """Return the most bytes that `generate` keeps of an answer of so many tokens; it needs up to twice that."""
        backbone = self.backbone
        sizes = [view.shape[-2] * view.shape[-1] for view in tokens.views]
        cells = max(sizes) * len(sizes) if backbone.resize_before_merge else sum(sizes)
        layers, heads, width = backbone.num_layers, backbone.num_heads, backbone.hidden_size
        return kept_bytes(layers, heads, width, cells, num_tokens, backbone.decoder.dtype.itemsize)  # hybrids: less

    @torch.no_grad()
    def generate(self, sample: Sample, max_new_tokens: int, max_bytes: int | None = None, **kwargs: Any) -> Answer:
        """Let the LMM answer, and keep its attention while it does.

        Args:
            sample: A sample without a caption.
            max_new_tokens: Most tokens of the answer.
            max_bytes: Keep nothing when that could take more memory than this.
            **kwargs: Of transformers' `generate`.

        Raises:
            ValueError: When picture, prompt and answer are longer than the LMM's context, or several answers, or more
                than token ids, are asked for.
        """
        if other := sorted(key for key in kwargs if key.startswith("output_") or key == "return_dict_in_generate"):
            raise ValueError(f"{other[0]} asks for another output than token ids: leave it out")
        tokens, decoder = self.backbone.prompt(sample), self.backbone.decoder
        prompt, layers, attending = len(tokens.mask_ids), range(self.backbone.num_layers), self.backbone.attending
        check_length(prompt + max_new_tokens, self.backbone.max_length)
        if max_bytes is not None and self.kept_bytes(tokens, max_new_tokens) > max_bytes:
            with undisturbed():
                ids = self.backbone.generate(**tokens.inputs, max_new_tokens=max_new_tokens + 1, **kwargs)[0]
            return Answer(ids[:-1], [], torch.empty(0), self.merge, int(ids[-1]))

        def keep(weights: Tensor, index: int) -> list[Tensor]:  # [A, 1, S] -> V x [A, 1, h, w]
            length = prompt + index + 1
            forgotten = max(0, length - weights.shape[-1])  # by the cache of a sliding window; a static one has room
            weights = F.pad(weights[..., :length], (forgotten, 0))
            return [view.to(self.backbone.device) for view in self._fold(weights, tokens.views)]

        with capture(decoder, None, keep) as captured:
            # one more than asked for: the last token is never read, so nothing is known of it
            ids = self.backbone.generate(**tokens.inputs, max_new_tokens=max_new_tokens + 1, **kwargs)[0]
        if not captured.hidden:  # its first token ended the answer
            nothing = torch.empty(len(attending), self.backbone.num_heads, 0, prompt)
            maps = [nothing[..., view.cpu()] for view in tokens.views]
            return Answer(ids[:0], maps, torch.empty(len(layers), 0, 0), self.merge, int(ids[-1]))
        views = [
            torch.stack([torch.cat([step[v] for step in captured.attention[i]], dim=1) for i in attending])
            for v in range(len(tokens.views))
        ]
        hidden = torch.stack([torch.cat(captured.hidden[i]).to(self.backbone.device) for i in layers])
        return Answer(ids[: hidden.shape[1]], views, hidden, self.merge, int(ids[-1]))

    def _fold(self, weights: Tensor, views: list[Tensor]) -> list[Tensor]:
        size = finest_size(views) if self.backbone.resize_before_merge else None
        return fold_rows(weights, [view.to(weights.device) for view in views], resize_to=size)


def text_rows(mask_ids: Tensor, length: int) -> Tensor:
    """Return positions of the text, the last `length` tokens of `mask_ids` [S]."""
    return torch.arange(len(mask_ids) - length, len(mask_ids), device=mask_ids.device)


def kept_bytes(num_layers: int, num_heads: int, width: int, cells: int, num_tokens: int, itemsize: int = 2) -> int:
    """Return the bytes that are kept of an answer: its attention to the picture and its hidden states.

    For LLaVA-1.5-7B (32 layers x 32 heads, 4,096 wide, 576 image tokens) and 512 tokens in bfloat16: 738 MB.

    Args:
        num_layers: L.
        num_heads: A.
        width: D of the hidden states.
        cells: Image tokens of all views.
        num_tokens: T.
        itemsize: Bytes of a number.
    """
    return num_layers * num_tokens * (num_heads * cells + width) * itemsize


def passes(tokens: dict[int, Tokens], max_tokens: int) -> Iterator[list[int]]:
    """Group samples of similar length into passes of at most `max_tokens` tokens, padding included; return indices."""
    chosen: list[int] = []
    for index in sorted(tokens, key=lambda i: len(tokens[i].mask_ids)):
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
    """Make one batch of the inputs of several sequences, padded on the right; one sequence stays as it is."""
    if len(inputs) == 1:
        return inputs[0]
    length = max(one["inputs_embeds"].shape[1] for one in inputs)
    embeds = [F.pad(one["inputs_embeds"], (0, 0, 0, length - one["inputs_embeds"].shape[1])) for one in inputs]
    batch = {"inputs_embeds": torch.cat(embeds)}
    if "position_ids" in inputs[0]:
        batch["position_ids"] = torch.cat([_counted_on(one["position_ids"], length) for one in inputs], dim=-2)
    return batch


def _counted_on(position_ids: Tensor, length: int) -> Tensor:
    """Extend positions [..., S] to [..., length] by counting on: for transformers a jump begins a new sequence."""
    more = torch.arange(1, length - position_ids.shape[-1] + 1, device=position_ids.device)
    return torch.cat([position_ids, position_ids[..., -1:] + more], dim=-1)
