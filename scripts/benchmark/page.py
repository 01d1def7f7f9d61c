"""Times of the page, as a user waits for them: until it answers, for a reply, from a click to its mask.

    python scripts/benchmark/page.py --clicks 5

Starts `flmm web` in a process and drives Chromium (docs/web.md). Every click is on a phrase of a picture opened afresh.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from flmm.web.browser import window

WAIT = 600  # seconds for anything, on a busy machine
QUESTION = "Please give me a description of the image."


def main(argv: list[str] | None = None) -> int:
    """Print the times in seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--port", type=int, default=7898)
    parser.add_argument("--size", type=int, nargs=2, default=(1360, 900), metavar=("WIDTH", "HEIGHT"))
    args = parser.parse_args(argv)
    begun = time.monotonic()
    with served(args.port) as url:
        answers = time.monotonic() - begun
        with window(args.size, 1000 * WAIT) as page:
            found = clicked(page, url, args.clicks)
    print(json.dumps({"until_the_page_answers": round(answers, 1), **found}, indent=1))
    return 0


@contextmanager
def served(port: int) -> Iterator[str]:
    """The address of a page that answers; RuntimeError when it ends before."""
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-m", "flmm.cli.main", "web", "--port", str(port)], stdout=sys.stderr
    ) as server:
        try:
            while not answering(url):
                if server.poll() is not None:
                    raise RuntimeError("`flmm web` ended: see what it says above, or pass --port")
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()


def answering(url: str) -> bool:
    """Whether a page answers."""
    try:
        urllib.request.urlopen(url, timeout=WAIT).close()
    except OSError:
        return False
    return True


def clicked(page: Any, url: str, clicks: int) -> dict[str, float]:
    """Median times in a window: until the page is there, of a reply, from a click to its mask."""
    examples, phrase = page.locator(".tiles button"), page.locator("article .phrase")
    times = defaultdict(list)
    times["load"] = [timed(lambda: page.goto(url), lambda: examples.first.wait_for())]
    for click in range(clicks):
        examples.nth(click % examples.count()).click()
        page.wait_for_selector(".thumb.here")
        page.fill("[name=question]", QUESTION)
        times["reply"].append(timed(lambda: page.keyboard.press("Enter"), phrase.first.wait_for))
        times["click_to_mask"].append(timed(phrase.first.click, lambda: page.wait_for_selector(".phrase.found")))
        page.click(".thumb .close")
        page.wait_for_selector(".thumb", state="detached")
    return {f"median_{name}": round(median(values), 2) for name, values in times.items()}


def timed(begin: Any, wait: Any) -> float:
    """Seconds from the begin of something until it is waited for no more."""
    start = time.monotonic()
    begin()
    wait()
    return time.monotonic() - start


if __name__ == "__main__":
    raise SystemExit(main())
