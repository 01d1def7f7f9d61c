"""What happens when the page, or an HTTP client, asks for something: session in, values of channels out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from flmm.api import GroundingModel
from flmm.cost import measured
from flmm.web import view
from flmm.web.download import zipped
from flmm.web.explain import choice, every_head, heat, hidden_region, looked, span_of, words_of_region
from flmm.web.limits import Limits, RefusedError
from flmm.web.session import Session, Source
from flmm.web.texts import ENGLISH
from flmm.web.uploads import picture_of_bytes, picture_of_url
from flmm.web.worker import Worker

Data = dict[str, Any]
Values = dict[str, Any]

# Channels that each request changes, besides `status`.
CHANNELS: dict[str, tuple[str, ...]] = {
    "open": ("pictures", "talk", "marks"),
    "select": ("pictures", "talk", "marks"),
    "close": ("pictures", "talk", "marks"),
    "reset": ("talk", "marks"),
    "ask": ("talk",),
    "stop": (),
    "ground": ("talk", "marks"),
    "say": ("talk", "marks"),
    "region": ("region",),
    "hide": ("hidden",),
    "heat": ("heat",),
    "heads": ("heads",),
    "look": ("look",),
    "download": ("file",),
}


class Handlers:
    """Carries out requests. A method named as a request takes the session and what was sent with it.

    Args:
        model: The model of all users.
        limits: What one user may ask.
        examples: Bytes of pictures that the page offers.
    """

    def __init__(self, model: GroundingModel, limits: Limits, examples: list[bytes]):
        self.model, self.limits, self.examples = model, limits, examples
        self.worker = Worker(limits.seconds)

    def session(self, session: Session | None) -> Session:
        """The session, or a new one."""
        return Session(self.model, self.limits) if session is None else session

    def page(self, name: str, session: Session, data: Data) -> Iterator[Values]:
        """Values of the channels that a request of the page changes; errors are in `status`."""
        status: dict[str, Any] = {"id": data.get("id"), "name": name}
        with measured() as cost:
            try:
                yield from self._values(name, session, data)
            except ValueError as error:
                status["error"] = said(error, data)
        yield {"status": status | view.spent(cost)}

    def _values(self, name: str, session: Session, data: Data) -> Iterator[Values]:
        if name == "stop":
            session.stop()
        elif name == "ask":
            yield from self.ask(session, data)
        else:
            method: Callable[[Session, Data], Values] = getattr(self, name)
            yield self.worker.run(lambda: method(session, data), session.stop)

    def ask(self, session: Session, data: Data) -> Iterator[Values]:
        """The conversation after each piece of the reply."""
        question, text = str(data.get("question", "")), ""
        try:
            for piece in self.worker.stream(lambda: session.ask(question, data.get("tokens")), session.stop):
                text += piece
                yield {"talk": view.talk(session, question, text)}
        finally:
            values = {"talk": view.talk(session)}
        yield values

    def open(self, session: Session, data: Data) -> Values:
        """Show a picture: an example by its number, or one that was sent."""
        if (number := data.get("example")) is not None:
            if number not in range(len(self.examples)):
                raise RefusedError("no_picture_yet")
            image = picture_of_bytes(self.examples[number], self.limits)
        else:
            image = picture_of_url(data.get("url"), self.limits)
        session.open(image, bool(data.get("add")))
        return self._all(session)

    def select(self, session: Session, data: Data) -> Values:
        """Go to another picture."""
        session.select(whole(data.get("room")), whole(data.get("picture", 0)))
        return self._all(session)

    def close(self, session: Session, data: Data) -> Values:
        """Forget a picture and what was said about it."""
        session.close(whole(data.get("room")))
        return self._all(session)

    def reset(self, session: Session, data: Data) -> Values:
        """Forget what was said about the picture."""
        session.reset()
        return {"talk": view.talk(session), "marks": view.marks(session)}

    def ground(self, session: Session, data: Data) -> Values:
        """Find phrases."""
        session.ground(source_of(data), spans_of(data.get("phrases")))
        return {"talk": view.talk(session), "marks": view.marks(session)}

    def say(self, session: Session, data: Data) -> Values:
        """Find phrases of a typed sentence."""
        phrases = [part.strip() for part in str(data.get("phrases", "")).split(";") if part.strip()]
        session.say(str(data.get("text", "")), phrases)
        return {"talk": view.talk(session), "marks": view.marks(session)}

    def region(self, session: Session, data: Data) -> Values:
        """Which words looked at a region."""
        where = session.region(data.get("box"), data.get("point"))
        return {"region": words_of_region(session, source_of(data), where)}

    def hide(self, session: Session, data: Data) -> Values:
        """What hiding a region changes."""
        where = session.region(data.get("box"), data.get("point"))
        return {"hidden": hidden_region(session, source_of(data), where)}

    def heat(self, session: Session, data: Data) -> Values:
        """Where words looked, in a layer and head."""
        layer, head = choice(data.get("layer")), choice(data.get("head"))
        return {"heat": heat(session, source_of(data), data.get("phrase"), layer, head)}

    def heads(self, session: Session, data: Data) -> Values:
        """The maps of all layers and heads."""
        return {"heads": every_head(session, source_of(data), data.get("phrase"))}

    def look(self, session: Session, data: Data) -> Values:
        """Ask again about a part of the picture."""
        return {"look": looked(session.look(source_of(data), data.get("box")))}

    def download(self, session: Session, data: Data) -> Values:
        """Everything as a zip file."""
        session.room  # noqa: B018  refuses when there is nothing to write
        content = base64.b64encode(zipped(session)).decode()
        return {"file": {"name": "flmm.zip", "url": f"data:application/zip;base64,{content}"}}

    def _all(self, session: Session) -> Values:
        return {"pictures": view.pictures(session), "talk": view.talk(session), "marks": view.marks(session)}


def said(error: ValueError, data: Data) -> str:
    """What the user reads of an error, in the language of the page; the library's reasons are English."""
    refused = error if isinstance(error, RefusedError) else RefusedError("refused", reason=error)
    return refused.text(str(data.get("language", ENGLISH)))


def source_of(data: Data) -> Source:
    """Which text a request is about: the last reply by default."""
    kind, index = data.get("source") or ("reply", 0)
    return ("sentence" if kind == "sentence" else "reply", whole(index))


def spans_of(phrases: Any) -> list[tuple[int, int]]:
    """Characters (start, end) of several phrases."""
    found = [span_of(phrase) for phrase in phrases] if isinstance(phrases, list) else []
    if not found or None in found:
        raise RefusedError("nothing_said")
    return [span for span in found if span]


def whole(value: Any) -> int:
    """A whole number; RefusedError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RefusedError("nothing_said")
    return value
