"""What one user does: pictures, what was said about them, and the masks of its phrases. Knows nothing of gradio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from flmm.api import Grounding, GroundingModel
from flmm.chat import Conversation, Phrase, Reply
from flmm.chat.look import Look
from flmm.chat.phrases import noun_phrases
from flmm.cost import Cost, measured
from flmm.masks import decode_mask, encode_mask
from flmm.web.limits import Limits, RefusedError

Source = tuple[str, int]  # ("reply", 2) or ("sentence", 0)


@dataclass(frozen=True)
class Mark:
    """A phrase that was found in a picture.

    Attributes:
        number: Counts from 1; says which color it has.
        source: The text that it is a phrase of.
        phrase: The phrase.
        picture: Index of the picture.
        score: As of `flmm.api.Grounding`.
        box: x0, y0, x1, y1 in pixels.
        mask: Run lengths of the refined mask.
        coarse: Run lengths of the coarse mask.
        attention: [h, w] over the picture.
    """

    number: int
    source: Source
    phrase: Phrase
    picture: int
    score: float
    box: list[float]
    mask: dict[str, Any]
    coarse: dict[str, Any]
    attention: np.ndarray


@dataclass
class Room:
    """A conversation, and what was found while it was held.

    Attributes:
        chat: The conversation; its pictures are those of the room.
        eye: Index of the picture that is looked at.
        sentences: Sentences that the user typed, as if the LMM had said them.
        typed: The same as they were typed; the LMM may lack a word.
        seen: Index of the picture that each sentence is about.
        phrases: The phrases of each text, found once.
        marks: The masks, oldest first.
        costs: Of each reply.
        made: How many masks there have been.
    """

    chat: Conversation
    eye: int = 0
    sentences: list[Reply] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    phrases: dict[Source, list[Phrase]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    made: int = 0

    def text(self, source: Source) -> Reply:
        """A reply or sentence; RefusedError when there is none."""
        kind, index = source
        texts = self.sentences if kind == "sentence" else self.chat.replies
        if not 0 <= index < len(texts):
            raise RefusedError("nothing_said")
        return texts[index]

    def words(self, source: Source) -> str:
        """A reply, or a sentence as it was typed."""
        return self.typed[source[1]] if source[0] == "sentence" else self.text(source).text

    def read(self, source: Source, span: tuple[int, int] | None) -> tuple[int, int] | str | None:
        """Characters of `words` as a phrase of what the LMM reads."""
        if span is None or self.words(source) == self.text(source).text:
            return span
        return self.words(source)[slice(*span)]

    def place(self, source: Source) -> tuple[int, int]:
        """Index of the picture that a text is about: among those of its prompt, and among those of the room."""
        text = self.text(source)
        if source[0] == "sentence":
            return 0, self.seen[source[1]]
        picture = min(self.eye, len(text.prompt.pictures) - 1)
        return picture, picture

    @property
    def image(self) -> Image.Image:
        """The picture that is looked at."""
        return self.chat.pictures[self.eye].image


class Session:
    """The pictures and conversations of one user.

    Args:
        model: The model of all users.
        limits: What one user may ask.
    """

    def __init__(self, model: GroundingModel, limits: Limits):
        self.model, self.limits = model, limits
        self.rooms: list[Room] = []
        self.current = 0

    @property
    def room(self) -> Room:
        """Where the user is; RefusedError before the first picture."""
        if not self.rooms:
            raise RefusedError("no_picture_yet")
        return self.rooms[self.current]

    def open(self, image: Image.Image, add: bool = False) -> None:
        """Begin a conversation about a picture, or shows it with the next question of this one."""
        self.limits.count("pictures", sum(len(room.chat.pictures) for room in self.rooms) + 1)
        if add:
            self.room.chat.add(image)
            self.room.eye = len(self.room.chat.pictures) - 1
            return
        self.rooms.append(Room(Conversation(self.model, image, memory=int(self.limits.memory_megabytes * 2**20))))
        self.current = len(self.rooms) - 1

    def select(self, room: int, picture: int = 0) -> None:
        """Go to a picture."""
        if not 0 <= room < len(self.rooms) or not 0 <= picture < len(self.rooms[room].chat.pictures):
            raise RefusedError("no_picture_yet")
        self.current, self.rooms[room].eye = room, picture

    def close(self, room: int) -> None:
        """Forget a conversation with its pictures."""
        if 0 <= room < len(self.rooms):
            del self.rooms[room]
        self.current = min(self.current, max(0, len(self.rooms) - 1))

    def reset(self) -> None:
        """Forget what was said about this picture."""
        room = self.room
        room.chat.reset()
        self.rooms[self.current] = Room(room.chat, room.eye)

    def ask(self, question: str, tokens: int | None = None) -> Iterator[str]:
        """Ask, and gives the reply piece by piece."""
        room, question = self.room, self.limits.text(question)
        self.limits.count("turns", len(room.chat.replies) + 1)
        tokens = max(1, min(int(tokens or self.limits.tokens), self.limits.tokens))
        return self._pieces(room, question, tokens)

    def _pieces(self, room: Room, question: str, tokens: int) -> Iterator[str]:
        with measured() as cost:
            yield from room.chat.stream(question, tokens)
        room.costs.append(cost)
        room.phrases["reply", len(room.chat.replies) - 1] = room.chat.replies[-1].phrases()

    def stop(self) -> None:
        """End what is being said."""
        for room in self.rooms:
            room.chat.stop()

    def say(self, text: str, phrases: Sequence[str | tuple[int, int]] | None = None) -> list[Mark]:
        """Ground phrases of a sentence that the LMM did not say; all noun phrases when none are named."""
        room, text = self.room, self.limits.text(text)
        self.limits.count("turns", len(room.sentences) + 1)
        wanted = list(phrases) if phrases else noun_phrases(text)[: self.limits.phrases]
        self.limits.count("phrases", len(wanted))
        grounding = self.model.ground(room.image, text, wanted)
        beside = Conversation(self.model, room.image, memory=room.chat.memory)
        sentence = beside.recall(self.model.builder.format.question, text)
        room.sentences.append(replace(sentence, answer=sentence.attended()))
        room.typed.append(text)
        room.seen.append(room.eye)
        source = ("sentence", len(room.sentences) - 1)
        marks = self._marked(room, source, room.eye, grounding)
        room.phrases[source] = [mark.phrase for mark in marks]
        return marks

    def ground(self, source: Source, phrases: Sequence[str | tuple[int, int]]) -> list[Mark]:
        """Ground phrases of a reply, or further ones of a sentence."""
        room, text = self.room, self.room.text(source)
        self.limits.count("phrases", len(phrases))
        picture, seen = room.place(source)
        if source[0] == "sentence":
            found = self.model.ground(text.shown(picture).image, room.words(source), list(phrases))
        else:
            found = text.ground(list(phrases), picture)
        return self._marked(room, source, seen, found)

    def _marked(self, room: Room, source: Source, picture: int, found: Grounding) -> list[Mark]:
        marks = []
        for index, (start, end) in enumerate(found.spans):
            room.made += 1
            phrase = Phrase(found.text[start:end], start, end)
            box, score = found.boxes[index].tolist(), float(found.scores[index])
            masks = encode_mask(found.masks[index]), encode_mask(found.coarse_masks[index])
            marks.append(Mark(room.made, source, phrase, picture, score, box, *masks, found.attention[index]))
        places = {(mark.source, mark.phrase, mark.picture) for mark in marks}
        kept = [mark for mark in room.marks if (mark.source, mark.phrase, mark.picture) not in places]
        room.marks = [*kept, *marks][-self.limits.marks :]
        return marks

    def region(self, box: Any = None, point: Any = None) -> dict[str, Any]:
        """A region as `box` or `mask`: what was drawn, or the smallest mask below a point."""
        room = self.room
        if point is None:
            return {"box": boxed(box, room.image)}
        x, y = (int(side) for side in numbers(point, 2))
        masks = [decode_mask(mark.mask) for mark in room.marks if mark.picture == room.eye]
        inside = 0 <= y < room.image.height and 0 <= x < room.image.width
        below = [mask for mask in masks if inside and mask[y, x]]
        if not below:
            raise RefusedError("no_mask_here", x=x, y=y)
        return {"mask": min(below, key=lambda mask: int(mask.sum()))}

    def look(self, source: Source, box: Any) -> Look:
        """Ask a question again with a crop of the picture."""
        room = self.room
        if source[0] != "reply":
            raise RefusedError("only_replies")
        room.text(source)
        self.limits.count("turns", len(room.chat.looks) + 1)
        box = boxed(box, room.image)
        return room.chat.look(box, reply=source[1], picture=room.eye, max_new_tokens=self.limits.tokens)


def numbers(values: Any, count: int) -> tuple[float, ...]:
    """So many finite numbers; RefusedError for anything else."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise RefusedError("no_region") from error
    if len(found) != count or not np.isfinite(found).all():
        raise RefusedError("no_region")
    return found


def boxed(values: Any, image: Image.Image) -> tuple[float, ...]:
    """The box x0, y0, x1, y1 of a request; RefusedError when it holds no pixel of the picture."""
    x0, y0, x1, y1 = box = numbers(values, 4)
    if x1 <= x0 or y1 <= y0:
        raise RefusedError("empty_box")
    if x1 <= 0 or y1 <= 0 or x0 >= image.width or y0 >= image.height:
        raise RefusedError("outside_box", width=image.width, height=image.height)
    return box
