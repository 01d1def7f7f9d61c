"""Starts the page: what listens where, who may come in, and what is left behind (nothing)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from flmm.api import GroundingModel
from flmm.web.gate import LOOPBACK, Gate
from flmm.web.handlers import Handlers
from flmm.web.limits import Limits, RefusedError
from flmm.web.page import build, head, style
from flmm.web.uploads import picture_of_bytes

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "sans-serif")
ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}
log = logging.getLogger(__name__)


def serve(
    model: GroundingModel,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    examples: Sequence[Path] = (),
    questions: Sequence[str] = (),
    auth: Sequence[tuple[str, str]] = (),
    root_path: str = "",
    limits: Limits | None = None,
    wait: bool = True,
) -> tuple[gr.Blocks, str]:
    """Start the page.

    Args:
        model: What is talked to.
        host: Where it listens; other machines reach it only at another address than 127.0.0.1.
        port: By default the first free one from 7860.
        examples: Pictures that the page offers.
        questions: Questions that the page proposes after that of the config.
        auth: Names and passwords; anybody may come in when there is none.
        root_path: Path or address below which a proxy serves the page.
        limits: What one user may ask.
        wait: Whether to return only when the page is ended.

    Returns:
        The page (`close()` ends it) and its address.
    """
    limits = limits or Limits()
    handlers = Handlers(model, limits, [path.read_bytes() for path in examples])
    page = build(handlers)
    alone = host in LOOPBACK and not root_path
    gate = Middleware(Gate, most_bytes=limits.body_bytes, hosts=LOOPBACK if alone else (), prefix=root_path)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        auth=list(auth) or None,
        root_path=root_path or None,
        app_kwargs={"middleware": [gate], "docs_url": None, "redoc_url": None, "openapi_url": None},
        max_threads=40,
        state_session_capacity=limits.users,
        max_file_size=1,
        share=False,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
        show_error=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=theme(),
        css=style(),
        head=head(handlers, list(questions)),
    )
    if wait:
        print(f"the page is at {address}  (Ctrl+C ends it)", flush=True)
        page.block_thread()
    return page, address


def theme() -> Any:
    """Gradio's plain theme with the fonts of the reader's machine: nothing is fetched from another site."""
    return gr.themes.Base(font=FONTS, font_mono=("ui-monospace", "monospace"))


def example_files(folder: str | Path, most: int = 12) -> list[Path]:
    """The first pictures of a folder that may be shown; none when there is no such folder."""
    found: list[Path] = []
    for path in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []:
        if path.suffix.lower() not in ENDINGS or len(found) == most:
            continue
        try:
            picture_of_bytes(path.read_bytes(), Limits())
        except RefusedError as error:
            log.warning("%s is no example: %s", path, error)
        else:
            found.append(path)
    return found
