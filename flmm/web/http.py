"""The same functions for programs: named endpoints of gradio's HTTP API, each with plain values. See docs/web.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from flmm.chat.explain import Heatmap
from flmm.cost import Cost
from flmm.web import view
from flmm.web.explain import hidden_region, words_of_region
from flmm.web.handlers import Handlers
from flmm.web.limits import RefusedError
from flmm.web.session import Session, Source
from flmm.web.uploads import picture_of_url

LANE = "model"  # all that uses the model waits in one lane


class Functions:
    """What a program may call. Each method's first argument is its session; the others are text, as the page's are.

    Args:
        handlers: Carry out what is asked.
    """

    def __init__(self, handlers: Handlers):
        self.handlers = handlers

    def open(self, session: Session, picture: str) -> dict[str, Any]:
        """Show a picture, given as a data: URL, and begin a conversation about it."""
        session.open(picture_of_url(picture, session.limits))
        return {"width": session.room.image.width, "height": session.room.image.height, "number": session.current}

    def ask(self, session: Session, question: str, tokens: str) -> dict[str, Any]:
        """Ask about the picture; an empty question is that of the model's config."""
        question = question or session.model.builder.format.question
        for _ in session.ask(question, int(tokens) if tokens else None):
            pass
        return self.reply(session, ("reply", len(session.room.chat.replies) - 1))

    def ground(self, session: Session, phrases: str, source: str) -> list[dict[str, Any]]:
        """Find phrases of a text (a JSON list of words or [start, end]); all of them when the list is empty."""
        place = place_of(session, source)
        wanted = [one if isinstance(one, str) else tuple(one) for one in listed(phrases)]
        known = [(phrase.start, phrase.end) for phrase in session.room.phrases.get(place, [])]
        return [view.found(mark) for mark in session.ground(place, wanted or known)]

    def say(self, session: Session, sentence: str, phrases: str) -> dict[str, Any]:
        """Find phrases (a JSON list of words) of a sentence that the model did not say."""
        marks = session.say(sentence, listed(phrases))
        number = len(session.room.sentences) - 1
        found, unknown = [view.found(mark) for mark in marks], view.unknown(session.room, ("sentence", number))
        return {"source": f"sentence {number}", "found": found, "unknown": unknown}

    def region(self, session: Session, box: str, source: str) -> dict[str, Any]:
        """Rank the words of a text by how much they looked at a box, JSON [x0, y0, x1, y1] in pixels."""
        found = words_of_region(session, place_of(session, source), session.region(listed(box)))
        return {key: found[key] for key in ("tokens", "phrases", "box")}

    def hide(self, session: Session, box: str, source: str) -> list[dict[str, Any]]:
        """Tell how the log-probability of each token of a text changes when a box is hidden."""
        return hidden_region(session, place_of(session, source), session.region(listed(box)))["tokens"]

    def heat(self, session: Session, phrase: str, layer: str, head: str, source: str) -> dict[str, Any]:
        """Show where words looked; layer and head are numbers, or 'mean'."""
        place = place_of(session, source)
        layers = {name: int(value) if value.isdigit() else "mean" for name, value in (("layer", layer), ("head", head))}
        text = session.room.text(place)
        found: Heatmap = text.token_to_region(phrase or None, **layers, picture=session.room.place(place)[0])
        return {"text": found.text, "share": [[round(value, 6) for value in row] for row in found.share.tolist()]}

    def look(self, session: Session, box: str, source: str) -> dict[str, Any]:
        """Ask a question again with a crop of the picture; both replies are given."""
        look = session.look(place_of(session, source), listed(box))
        return {"first": look.first.text, "second": look.second.text, "box": list(look.box)}

    def reset(self, session: Session) -> dict[str, Any]:
        """Forget what was said about the picture."""
        session.reset()
        return {}

    def download(self, session: Session) -> dict[str, Any]:
        """Give everything as a zip file, as a data: URL."""
        return self.handlers.download(session, {})["file"]

    def reply(self, session: Session, source: Source) -> dict[str, Any]:
        """A reply with its phrases, and what it cost."""
        reply = session.room.text(source)
        cost: Cost = session.room.costs[source[1]]
        phrases = [phrase._asdict() for phrase in session.room.phrases[source]]
        return {
            "source": f"{source[0]} {source[1]}",
            "text": reply.text,
            "cut": reply.cut,
            "phrases": phrases,
            **view.spent(cost),
        }


ARGUMENTS: dict[str, dict[str, str]] = {
    "open": {"picture": ""},
    "ask": {"question": "", "tokens": ""},
    "ground": {"phrases": "[]", "source": ""},
    "say": {"sentence": "", "phrases": "[]"},
    "region": {"box": "", "source": ""},
    "hide": {"box": "", "source": ""},
    "heat": {"phrase": "", "layer": "mean", "head": "mean", "source": ""},
    "look": {"box": "", "source": ""},
    "reset": {},
    "download": {},
}


def add_functions(handlers: Handlers, state: gr.State) -> None:
    """Add the functions to the page that is being built."""
    functions = Functions(handlers)
    with gr.Column(visible=False):
        answer = gr.JSON()
        for name, defaults in ARGUMENTS.items():
            fields = [gr.Textbox(value=default, label=label) for label, default in defaults.items()]
            gr.Button(name).click(
                endpoint(handlers, getattr(functions, name), list(defaults)),
                [state, *fields],
                [state, answer],
                api_name=name,
                api_description=getattr(functions, name).__doc__,
                concurrency_limit=1,
                concurrency_id=LANE,
            )


def endpoint(
    handlers: Handlers, function: Callable[..., Any], names: list[str]
) -> Callable[..., Iterator[tuple[Session, Any]] | tuple[Session, Any]]:
    """A function as gradio calls it; what goes wrong is said to the program."""

    def run(session: Session | None, *values: str) -> tuple[Session, Any]:
        session = handlers.session(session)
        try:
            return session, handlers.worker.run(lambda: function(session, *map(str, values)), session.stop)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    run.__name__ = function.__name__
    return run


def listed(text: str) -> list[Any]:
    """A JSON list of a request; RefusedError for anything else."""
    try:
        found = json.loads(text or "[]")
    except ValueError as error:
        raise RefusedError("no_list", text=text[:80]) from error
    if not isinstance(found, list):
        raise RefusedError("no_list", text=text[:80])
    return found


def place_of(session: Session, source: str) -> Source:
    """'reply 2' or 'sentence 0'; the last reply when nothing is given."""
    kind, _, index = (source or f"reply {len(session.room.chat.replies) - 1}").partition(" ")
    if kind not in ("reply", "sentence") or not index.lstrip("-").isdigit():
        raise RefusedError("nothing_said")
    return kind, int(index)
