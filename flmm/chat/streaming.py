"""A reply piece by piece, while the LMM is still speaking."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Event
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer


class Pieces(BaseStreamer):
    """Puts each new piece of text into a queue.

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
        """Takes the prompt, then one token at a time; transformers calls it."""
        if self.ids is None:
            self.ids = []
            return
        self.ids += value.flatten().tolist()
        self.send(self.decode(self.ids[:-1]))

    def send(self, text: str) -> None:
        """Sends what is new in `text`."""
        if text.startswith(self.sent) and not text.endswith("\N{REPLACEMENT CHARACTER}") and text != self.sent:
            self.queue.put(text[len(self.sent) :])
            self.sent = text

    def end(self) -> None:
        """Part of transformers' interface; the conversation ends the queue, also after an error."""


class StopWhen(StoppingCriteria):
    """Ends a generation after its newest token once an event is set."""

    def __init__(self, event: Event):
        self.event = event

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # type: ignore[override]
        """[B] bool: whether each sequence ends."""
        return torch.full((len(input_ids),), self.event.is_set(), device=input_ids.device)
