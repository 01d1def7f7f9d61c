"""The page as gradio sees it: one component that is drawn by `assets/`, a hidden one for each channel, and events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from flmm.evaluation.drawings import COLOURS
from flmm.web.handlers import CHANNELS, Handlers
from flmm.web.http import LANE, add_functions
from flmm.web.images import picture_url
from flmm.web.session import Session
from flmm.web.texts import TEXTS
from flmm.web.uploads import picture_of_bytes
from flmm.web.view import THUMB

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("core", "stage", "talk", "tools")
FORGOTTEN = 2 * 3600  # seconds after which the conversations of a user who went away are given up
START = "flmm.start(element, trigger, [{names}])"
RECEIVE = "watch('value', () => flmm.receive('{name}', props.value))"


def build(handlers: Handlers) -> gr.Blocks:
    """The page, and the HTTP functions beside it.

    Args:
        handlers: Carry out what is asked.
    """
    with gr.Blocks(title="F-LMM", analytics_enabled=False, fill_width=True) as page:
        state = gr.State(time_to_live=FORGOTTEN)
        names = ", ".join(f"'{name}'" for name in CHANNELS)
        desk = gr.HTML(
            value="",
            html_template=(ASSETS / "page.html").read_text(encoding="utf-8"),
            js_on_load=START.format(names=names),
            apply_default_css=False,
            elem_id="flmm",
        )
        tray = gr.HTML(value="", elem_id="flmm-tray", min_height=40)  # gradio draws queue and time here
        kept = {
            name: gr.HTML(value=None, js_on_load=RECEIVE.format(name=name), visible="hidden", html_template="")
            for name in sorted({"status"} | {one for changed in CHANNELS.values() for one in changed})
        }
        for name, changed in CHANNELS.items():
            outputs = [state, tray, *(kept[channel] for channel in (*changed, "status"))]
            getattr(desk, name)(
                on_event(handlers, name),
                state,
                outputs,
                queue=True,
                show_progress="full",
                show_progress_on=tray,
                trigger_mode="multiple",
                concurrency_limit=None if name == "stop" else 1,
                concurrency_id=name if name == "stop" else LANE,
                api_visibility="private",
            )
        add_functions(handlers, state)
    page.queue(max_size=handlers.limits.queue, api_open=False)
    return page


def on_event(handlers: Handlers, name: str) -> Callable[..., Iterator[list[Any]]]:
    """The function that gradio calls when the page asks for something."""
    channels = (*CHANNELS[name], "status")

    def run(session: Session | None, event: gr.EventData) -> Iterator[list[Any]]:
        session = handlers.session(session)
        data = event._data if isinstance(event._data, dict) else {}
        for values in handlers.page(name, session, data):
            yield [session, gr.skip(), *(values.get(channel, gr.skip()) for channel in channels)]

    run.__annotations__ = {"event": gr.EventData}  # gradio reads it while it is built
    return run


def head(handlers: Handlers, questions: list[str]) -> str:
    """What stands in the head of the page: what its scripts must know, and the scripts."""
    model = handlers.model
    known = {
        "texts": TEXTS,
        "limits": vars(handlers.limits),
        "examples": [picture_url(picture_of_bytes(one, handlers.limits), THUMB * 2) for one in handlers.examples],
        "questions": [model.builder.format.question, *questions],
        "several": model.builder.format.several,
        "layers": model.model.backbone.num_layers,
        "heads": model.model.backbone.num_heads,
        "colors": colors(),
    }
    content = json.dumps(known, ensure_ascii=False).replace("</", "<\\/")
    scripts = "\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{viewport}\n<script>window.flmmKnown = {content};\n{scripts}\n</script>"


def colors() -> list[str]:
    """The colors of phrases, told apart with all common kinds of color vision."""
    return [f"rgb({red}, {green}, {blue})" for red, green, blue in COLOURS]


def style() -> str:
    """The style sheet."""
    return (ASSETS / "page.css").read_text(encoding="utf-8")
