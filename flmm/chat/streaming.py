"""A reply piece by piece, while the LMM is still speaking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Queue
from threading import Event
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer


class Pieces(BaseStreamer):
    """Put each new piece of text into a queue.

    The newest token waits for the one after it: whether it is part of the reply or ends it is known only then. So does
    a letter until all of its tokens are there.

    Args:
        decode: Token ids -> the text.

    Attributes:
        queue: The pieces; None after the last one.
        sent: All of them together.
    """

    def __init__(self, decode: Callable[[list[int]], str]):
        self.decode = decode
        self.queue: Queue[str | None] = Queue()
        self.sent = ""
        self.ids: list[int] | None = None

    def put(self, value: Tensor) -> None:
        """Take the prompt, then one token at a time; transformers calls it."""
        if self.ids is None:
            self.ids = []
            return
        self.ids += value.flatten().tolist()
        self.send(self.decode(self.ids[:-1]))

    def send(self, text: str) -> None:
        """Send what is new in `text`."""
        if text.startswith(self.sent) and not text.endswith("\N{REPLACEMENT CHARACTER}") and text != self.sent:
            self.queue.put(text[len(self.sent) :])
            self.sent = text

    def end(self) -> None:
        """Part of transformers' interface; the conversation ends the queue, also after an error."""


class StopAtText(StoppingCriteria):
    """End a generation when its text ends with one of some words.

    transformers' `stop_strings` cannot do it with small vocabularies: it looks for letters of its own in them.

    Args:
        decode: Token ids -> the text.
        words: The words.
    """

    RECENT = 8  # tokens that are decoded

    def __init__(self, decode: Callable[[list[int]], str], words: Sequence[str]):
        self.decode, self.words = decode, tuple(words)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # type: ignore[override]
        """Tell of each of B sequences whether it ends: [B] bool."""
        texts = [self.decode(ids).strip("\r\n") for ids in input_ids[:, -self.RECENT :].tolist()]
        return torch.tensor([text.endswith(self.words) for text in texts], device=input_ids.device)


class StopStrings(StoppingCriteria):
    """End a generation once its text holds one of some strings, as transformers' `stop_strings` does.

    That of transformers fails on small vocabularies, in which it looks for letters of its own.

    Args:
        decode: Token ids -> the text.
        strings: The strings, or a single one.

    Attributes:
        found: Whether one was said.
    """

    def __init__(self, decode: Callable[[list[int]], str], strings: str | Sequence[str]):
        self.decode, self.found = decode, False
        self.strings = (strings,) if isinstance(strings, str) else tuple(strings)
        self.recent = 8 + max(map(len, self.strings), default=0)  # tokens that are decoded

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # type: ignore[override]
        """Tell of each of B sequences whether it ends: [B] bool. A string may end inside of the newest token."""
        ends = [self._ends(ids) for ids in input_ids[:, -self.recent :].tolist()] if self.strings else [False]
        self.found = any(ends)
        return torch.tensor(ends, device=input_ids.device).expand(len(input_ids))

    def _ends(self, ids: list[int]) -> bool:
        text, before = self.decode(ids), len(self.decode(ids[:-1]))
        return any(string in text[max(0, before - len(string) + 1) :] for string in self.strings)


class StopWhen(StoppingCriteria):
    """End a generation after its newest token once an event is set."""

    def __init__(self, event: Event):
        self.event = event

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # type: ignore[override]
        """Tell of each of B sequences whether it ends: [B] bool."""
        return torch.full((len(input_ids),), self.event.is_set(), device=input_ids.device)
