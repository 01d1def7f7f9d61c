"""A window of Chromium, in which scripts and tests use the page as a person does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
LAUNCH = ["--no-sandbox", "--disable-gpu"]
MISSING = "no Chromium on this machine: apt-get install chromium"


def chromium() -> str | None:
    """Return the path of this machine's Chromium; None when there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def window(size: Sequence[int], wait: float) -> Iterator[Any]:
    """Open a window, a page of playwright.

    Args:
        size: Its width and height in pixels.
        wait: Milliseconds that anything may take.

    Raises:
        ValueError: There is no Chromium or no playwright, or the page does something else than it should.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise ValueError("playwright is not installed: pip install playwright") from error
    if (path := chromium()) is None:
        raise ValueError(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=LAUNCH)
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, locale="en-US", color_scheme="light")
        page.set_default_timeout(wait)
        try:
            yield page
        except Error as error:
            raise ValueError(f"the page did not do what was expected of it: {error}") from error
        finally:
            browser.close()
