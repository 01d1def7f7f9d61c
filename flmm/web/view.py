"""What the page shows of a session, as values that the browser draws."""

from __future__ import annotations

from typing import Any

from flmm.cost import Cost
from flmm.masks import decode_mask
from flmm.web.images import gray_url, mask_url, picture_url
from flmm.web.session import Mark, Room, Session, Source

THUMB = 96  # pixels


def pictures(session: Session) -> dict[str, Any]:
    """The strip of pictures, and the one that is looked at."""
    strip = [
        {"room": index, "picture": number, "thumb": picture_url(picture.image, THUMB)}
        for index, room in enumerate(session.rooms)
        for number, picture in enumerate(room.chat.pictures)
    ]
    if not session.rooms:
        return {"strip": [], "shown": None}
    image = session.room.image
    place = {"room": session.current, "picture": session.room.eye}
    return {"strip": strip, "shown": place | {"url": picture_url(image), "width": image.width, "height": image.height}}


def talk(session: Session, question: str = "", said: str | None = None) -> dict[str, Any]:
    """The conversation with its phrases, the sentences, and a reply that is being given."""
    if not session.rooms:
        return {"turns": [], "sentences": []}
    room = session.room
    turns = [
        {"question": reply.question, "cut": reply.cut, "cost": cost_of(room, index)} | written(room, ("reply", index))
        for index, reply in enumerate(room.chat.replies)
    ]
    if said is not None:
        turns.append({"question": question, "text": said, "phrases": [], "speaking": True})
    sentences = [written(room, ("sentence", index)) for index in range(len(room.sentences))]
    return {"turns": turns, "sentences": sentences}


def written(room: Room, source: Source) -> dict[str, Any]:
    """A text and its phrases."""
    phrases = [phrase._asdict() for phrase in room.phrases.get(source, [])]
    return {
        "source": list(source),
        "text": room.words(source),
        "phrases": phrases,
        "unknown": unknown(room, source),
    }


def unknown(room: Room, source: Source) -> list[str]:
    """Words that the user wrote, a sentence or the question of a reply, and the LMM does not know."""
    wrote = room.words(source) if source[0] == "sentence" else room.text(source).question
    return room.chat.model.builder.unknown_words(wrote)


def cost_of(room: Room, index: int) -> dict[str, float] | None:
    """Time and memory of a reply; None while they are not known."""
    return spent(room.costs[index]) if index < len(room.costs) else None


def spent(cost: Cost) -> dict[str, float]:
    """Time in seconds, and peak memory in megabytes."""
    return {"seconds": round(cost.seconds, 2), "megabytes": round(cost.megabytes)}


def marks(session: Session) -> list[dict[str, Any]]:
    """The masks of the picture that is looked at."""
    if not session.rooms:
        return []
    return [drawn(mark) for mark in session.room.marks if mark.picture == session.room.eye]


def drawn(mark: Mark) -> dict[str, Any]:
    """A mask as the browser draws it."""
    return {
        "number": mark.number,
        "source": list(mark.source),
        "phrase": mark.phrase._asdict(),
        "score": round(mark.score, 3),
        "box": [round(side, 1) for side in mark.box],
        "refined": mask_url(decode_mask(mark.mask)),
        "coarse": mask_url(decode_mask(mark.coarse)),
        "attention": gray_url(mark.attention),
    }


def found(mark: Mark) -> dict[str, Any]:
    """A mask as an HTTP client gets it."""
    return {
        "text": mark.phrase.text,
        "start": mark.phrase.start,
        "end": mark.phrase.end,
        "picture": mark.picture,
        "score": mark.score,
        "box": mark.box,
        "mask": mark.mask,
    }
