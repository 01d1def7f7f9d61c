"""Pack several texts about one picture into one sequence: picture and prompt once, then every text.

A text sees picture, prompt and itself, at the positions that it has when it stands alone, so what is read of it is what
a sequence of its own gives, within rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from flmm.constants import IGNORE_INDEX
from flmm.models.backbone import Backbone, Reading, Tokens, check_length, check_phrases
from flmm.models.capture import implementation

Sample = dict[str, Any]


@dataclass(frozen=True)
class Pack:
    """Texts about a picture in one sequence.

    Attributes:
        tokens: What the LMM will read, phrases numbered on from text to text.
        mask_ids: [S] of each text, with picture and prompt, its phrases numbered from 0.
        lengths: Tokens of each text.
    """

    tokens: Tokens
    mask_ids: list[Tensor]
    lengths: list[int]

    def unpack(self, reading: Reading) -> list[Reading]:
        """Split the Reading of the sequence into one for each text."""
        phrases = [int(mask_ids.max()) + 1 for mask_ids in self.mask_ids]
        rows = [int((mask_ids >= 0).sum()) for mask_ids in self.mask_ids]
        attention = zip(*(view.split(phrases, dim=2) for view in reading.attention), strict=True)
        hidden = reading.hidden.split(rows, dim=1)
        texts = [None] * len(rows) if reading.text is None else reading.text.split(self.lengths, dim=1)
        parts = zip(attention, hidden, self.mask_ids, texts, strict=True)
        return [Reading(list(views), *own) for views, *own in parts]


def same_picture(samples: Sequence[Sample], max_tokens: int) -> Iterator[list[int]]:
    """Group samples with the same pixels and prompt, at most `max_tokens` tokens of text in a group; return indices.

    The pixels are the same when they are one object, as in `RefCOCO2PNG(concat=False)`.
    """
    groups: dict[Any, list[int]] = {}
    for index, sample in enumerate(samples):
        prompt = tuple(sample["input_ids"][: prompt_length(sample)].tolist())
        groups.setdefault((id(sample["pixel_values"]), prompt) if prompt else index, []).append(index)
    for group in groups.values():
        chosen: list[int] = []
        size = 0
        for index in group:
            text = len(samples[index]["input_ids"]) - prompt_length(samples[index])
            if chosen and size + text > max_tokens:
                yield chosen
                chosen, size = [], 0
            chosen.append(index)
            size += text
        yield chosen


def prompt_length(sample: Sample) -> int:
    """Count tokens of picture and prompt, which have no label; 0 when the sample has no labels or has phrases there."""
    labelled = sample.get("labels", torch.empty(0)) != IGNORE_INDEX
    length = int(labelled.long().argmax()) if labelled.any() else 0
    return 0 if (sample["mask_ids"][:length] >= 0).any() else length


def text_length(sample: Sample) -> int:
    """Count the tokens of the text, which come last and have labels; 0 when the sample does not say."""
    return int((sample["labels"] != IGNORE_INDEX).sum()) if "labels" in sample else 0


@torch.no_grad()
def pack(backbone: Backbone, samples: list[Sample]) -> Pack | None:
    """Pack samples of the same picture and prompt; return None when the LMM has to read them one by one.

    Raises:
        ValueError: When a text has no phrase, a phrase has no token, or a text is longer than the LMM's context.
    """
    config = backbone.decoder.config
    if implementation(backbone.decoder) != "sdpa":  # others take no such mask
        return None
    if len(backbone.attending) < backbone.num_layers:  # a convolution or a state carries one text into the next
        return None
    first, prompt = samples[0], prompt_length(samples[0])
    lengths = [len(sample["input_ids"]) - prompt for sample in samples]
    before = accumulate((check_phrases(sample["mask_ids"]) for sample in samples), initial=0)
    numbered = [torch.where(m >= 0, m + n, m) for m, n in zip((s["mask_ids"] for s in samples), before, strict=False)]
    joined = {key: joined_texts([sample[key] for sample in samples], prompt) for key in ("input_ids", "labels")}
    tokens = backbone.tokens({**first, **joined, "mask_ids": joined_texts(numbered, prompt)})
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(
        window and len(tokens.mask_ids) > window for window in windows
    ):  # a later text would not see all of the prompt
        return None
    start = len(tokens.mask_ids) - sum(lengths)
    check_length(start + max(lengths), backbone.max_length)
    head = tokens.mask_ids[:start]
    own = [torch.cat([head, sample["mask_ids"][prompt:].to(head)]) for sample in samples]
    inputs = tokens.inputs | side_by_side(tokens, start, torch.tensor(lengths, device=head.device))
    return Pack(Tokens(inputs, tokens.mask_ids, tokens.views), own, lengths)


def joined_texts(values: list[Tensor], prompt: int) -> Tensor:
    """Join prompt and text [S] of each sample into the prompt and all texts."""
    return torch.cat([values[0][:prompt], *(value[prompt:] for value in values)])


def side_by_side(tokens: Tokens, start: int, lengths: Tensor) -> dict[str, Any]:
    """Return mask and positions of texts that stand one after another from `start` on; each continues the prompt.

    Args:
        tokens: The sequence as if it were one text.
        start: Where the first text begins.
        lengths: [N] tokens of each text.

    Returns:
        `attention_mask`, by which no text sees another, and `position_ids` [..., S].
    """
    size = len(tokens.mask_ids)
    text = torch.zeros(size, dtype=torch.long, device=lengths.device)  # 0: picture and prompt
    text[start:] = torch.arange(1, len(lengths) + 1, device=lengths.device).repeat_interleave(lengths)
    visible = (text == text[:, None]) | (text == 0)
    positions = tokens.inputs.get("position_ids", torch.arange(size, device=lengths.device)[None]).clone()
    positions[..., start:] -= (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    return {"attention_mask": confined(tokens.inputs.get("attention_mask"), visible), "position_ids": positions}


def confined(mask: Any, visible: Tensor) -> Any:
    """Restrict a mask of the LMM, or several by name, to the pairs that are `visible` [S, S]."""
    if isinstance(mask, dict):
        return {name: confined(own, visible) for name, own in mask.items()}
    if mask is None or mask.ndim == 2:  # it is causal, without padding
        return visible.tril()[None, None]
    return mask & visible if mask.dtype == torch.bool else mask.masked_fill(~visible, torch.finfo(mask.dtype).min)
