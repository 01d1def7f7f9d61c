"""Talk to the LMM about one picture or several: ask, ground what it says, ask on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from transformers import StoppingCriteriaList

from flmm.api import GroundingModel
from flmm.chat.look import Look, region_box, second_prompt
from flmm.chat.prompt import Picture, Prompt
from flmm.chat.regions import Box
from flmm.chat.reply import Reply
from flmm.chat.streaming import Pieces, StopStrings, StopWhen
from flmm.datasets.prompts import Turn, sayable
from flmm.models.backbone import TooLongError

MEMORY = 1 << 30


class Conversation:
    """A conversation about pictures. The LMM says what plain transformers `generate` says, token by token.

    Args:
        model: The model to talk to.
        pictures: A file, PIL picture or array [H, W, 3] uint8, or a list of them; shown with the next question.
        system: System text; none unless it is given.
        memory: Most bytes kept of what replies attended to. The oldest replies give theirs up first; they are read
            again when they are grounded, which gives the same. `Reader.kept_bytes` says beforehand what a reply takes.

    Attributes:
        pictures: The pictures, in the order in which they are shown.
        replies: The replies so far.
        looks: The second looks so far.

    Raises:
        ValueError: For no picture, several that the LMM cannot read, a system text that it has no place for.

    Example:
        >>> chat = flmm.Conversation(model, "photo.jpg")
        >>> for piece in chat.stream("Which shape is red?"):
        ...     text = piece
        >>> len(chat.replies)
        1
    """

    def __init__(self, model: GroundingModel, pictures: Any, system: str | None = None, memory: int = MEMORY):
        self.model, self.system, self.memory = model, system, memory
        self.pictures: list[Picture] = []
        self.replies: list[Reply] = []
        self.looks: list[Look] = []
        self._stop = Event()
        for picture in pictures if isinstance(pictures, list | tuple) else [pictures]:
            self.add(picture)
        if not self.pictures:
            raise ValueError("a conversation needs a picture: give at least one")
        model.builder.format.ids([self._turn(None)], system)

    def add(self, picture: Any) -> None:
        """Show one more picture, with the next question; ValueError when the LMM reads one only."""
        if self.pictures and not self.model.builder.format.several:
            lmm = type(self.model.model.backbone.model).__name__
            raise ValueError(
                f"{lmm} reads one picture at a time: begin a conversation for each picture, or use an LMM whose "
                "prompt_template says SEVERAL_PICTURES=True"
            )
        self.pictures.append(Picture.of(self.model, picture))

    def ask(self, question: str | None = None, max_new_tokens: int = 200, **generate: Any) -> Reply:
        """Ask, and wait for the reply.

        Args:
            question: By default that of the config's prompt. `<image>` in it marks where each new picture stands; by
                default they stand in front of it.
            max_new_tokens: Longest reply.
            **generate: Keywords of transformers' `generate`; greedy by default. `stop_strings` ends a reply at a text.

        Returns:
            The reply, which is also added to `replies`.

        Raises:
            ValueError: For an empty question; when pictures, history and reply are longer than the LMM's context; when
                the conversation went on, or was reset, in another thread.
        """
        prompt = self._prompt(question)
        return self._add(self._say(prompt, max_new_tokens, **generate))

    def stream(self, question: str | None = None, max_new_tokens: int = 200, **generate: Any) -> Iterator[str]:
        """Ask, and give the reply piece by piece; after the last piece it is in `replies`. Arguments as of `ask`.

        Whoever stops iterating ends the reply and drops it; `stop` ends it and keeps what was said. ValueError when
        the conversation goes on or is reset meanwhile.
        """
        return self._pieces(self._prompt(question), max_new_tokens, generate)

    def recall(self, question: str, text: str) -> Reply:
        """Put a turn into the history as if it had been held here.

        Args:
            question: As of `ask`.
            text: What the LMM is to have replied.

        Returns:
            The reply, which is also added to `replies`.
        """
        token_ids = self.model.builder.tokenizer.encode(sayable(text, "the reply"), add_special_tokens=False)
        self.replies.append(Reply(self._prompt(question), token_ids))
        return self.replies[-1]

    def stop(self) -> None:
        """End the reply that is being given after its newest token; from another thread, or between two pieces."""
        self._stop.set()

    def reset(self) -> None:
        """Forget what was said; the pictures stay, and are shown with the next question."""
        self.replies.clear()
        self.looks.clear()

    def look(
        self,
        box: Box | None = None,
        phrase: Any = None,
        mask: np.ndarray | None = None,
        reply: int = -1,
        picture: int = 0,
        box_scale: float = 1.0,
        max_new_tokens: int = 200,
        **generate: Any,
    ) -> Look:
        """Ask a question again, with a crop of the picture as one more picture, encoded at the LMM's resolution.

        Both replies are kept; the conversation goes on from the first. An LMM of one picture gets the crop alone.

        Args:
            box: x0, y0, x1, y1 in pixels of the region.
            phrase: Words of the reply, (start, end) or an item of `phrases()`, instead of a box: they are grounded.
            mask: [H, W] bool, instead of a box.
            reply: Index of the reply to ask for again; the last one by default.
            picture: Index of the picture.
            box_scale: Factor on the sides of the crop (`flmm.chat.look.crop_box`).
            max_new_tokens: Longest reply.
            **generate: As of `ask`.

        Raises:
            ValueError: When nothing was asked yet; for a region outside the picture, or not just one region.
        """
        if not -len(self.replies) <= reply < len(self.replies):
            raise ValueError(f"no reply {reply} to look at again: {len(self.replies)} were given, `ask` first")
        first = self.replies[reply]
        region = region_box(first, box, phrase, mask, picture, box_scale)
        prompt = second_prompt(first.prompt, first.shown(picture).image.crop(region))
        self.looks.append(Look(region, picture, first, self._say(prompt, max_new_tokens, **generate)))
        self._forget()
        return self.looks[-1]

    def save(self, folder: str | Path) -> None:
        """Write pictures, questions, replies and masks into a folder; `load` reads it."""
        from flmm.chat.saving import save

        save(self, folder)

    @classmethod
    def load(cls, folder: str | Path, model: GroundingModel) -> Conversation:
        """Go on with a conversation that was saved.

        Args:
            folder: What `save` wrote.
            model: The model that it was held with.

        Raises:
            FileNotFoundError: When there is no conversation in the folder.
            ValueError: When another LMM said what is there.
        """
        from flmm.chat.saving import load

        return load(folder, model)

    def _turn(self, question: str | None) -> Turn:
        question = self.model.builder.format.question if question is None else question
        if not sayable(question, "the question").strip():
            raise ValueError("the question is empty: ask something about the picture")
        return Turn(question, len(self.pictures) - sum(turn.pictures for turn in self._turns()))

    def _turns(self) -> list[Turn]:
        """All that was asked and replied."""
        asked = [(reply, reply.prompt.turns[-1]) for reply in self.replies]
        return [Turn(turn.question, turn.pictures, reply.token_ids) for reply, turn in asked]

    def _prompt(self, question: str | None) -> Prompt:
        prompt = Prompt(self.model, tuple(self.pictures), (*self._turns(), self._turn(question)), self.system)
        self.model.builder.format.ids(prompt.turns, self.system)
        self.model.warn_of_unknown(prompt.turns[-1].question)
        return prompt

    def _say(self, prompt: Prompt, max_new_tokens: int, **generate: Any) -> Reply:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}: a reply needs at least 1 token")
        self._stop.clear()
        tokenizer = self.model.builder.tokenizer
        ends = StopStrings(tokenizer.decode, generate.pop("stop_strings", None) or ())
        criteria = [*generate.pop("stopping_criteria", []), StopWhen(self._stop), ends]
        rules = {"do_sample": False, "stopping_criteria": StoppingCriteriaList(criteria)} | generate
        try:
            answer = self.model.model.read.generate(prompt.sample(), max_new_tokens, self.memory, **rules)
        except TooLongError as error:
            raise TooLongError(
                f"{error}. {len(self.replies)} replies and {len(self.pictures)} pictures come before the question: "
                "`reset()` forgets the replies, a smaller max_new_tokens leaves more room"
            ) from error
        ended = answer.next_id in tokenizer.all_special_ids or ends.found
        cut = self._stop.is_set() or (len(answer.token_ids) == max_new_tokens and not ended)
        return Reply(prompt, answer.token_ids.tolist(), answer if answer.attention else None, cut)

    def _pieces(self, prompt: Prompt, max_new_tokens: int, generate: dict[str, Any]) -> Iterator[str]:
        tokenizer = self.model.builder.tokenizer
        pieces = Pieces(lambda ids: tokenizer.decode(ids, skip_special_tokens=True).strip())
        self._check_history(prompt)
        with ThreadPoolExecutor(1) as pool:
            said = pool.submit(self._say, prompt, max_new_tokens, streamer=pieces, **generate)
            said.add_done_callback(lambda _: pieces.queue.put(None))
            try:
                yield from iter(pieces.queue.get, None)
            finally:
                self.stop()
            reply = said.result()
        self._add(reply)
        if rest := reply.text.removeprefix(pieces.sent):
            yield rest

    def _add(self, reply: Reply) -> Reply:
        self._check_history(reply.prompt)
        self.replies.append(reply)
        self._forget()
        return reply

    def _check_history(self, prompt: Prompt) -> None:
        """Raise ValueError when the conversation went on, or was reset, after a question was asked."""
        if prompt.turns[:-1] != tuple(self._turns()):
            raise ValueError(
                f"the conversation changed while {prompt.turns[-1].question!r} waited for its reply, which is dropped: "
                "read a stream to its end (or close it) before the next question, and ask again"
            )

    def _forget(self) -> None:
        """Give up what the oldest replies attended to, until the memory bound is kept."""
        replies = [*self.replies, *(look.second for look in self.looks)]
        kept = [reply for reply in replies if reply.answer is not None]
        used = sum(reply.answer.num_bytes for reply in kept if reply.answer is not None)
        for reply in kept:
            if used <= self.memory:
                return
            assert reply.answer is not None
            used -= reply.answer.num_bytes
            reply.answer = None
