"""Makes the README's moving picture of the web page: record_page.py drives Chromium through one conversation.

It opens the page (`--url`, or starts `flmm web` itself), takes an example picture, asks, clicks the phrases of the
reply, shows the attention, and draws a region. It shows what the page did: nothing is drawn by this script.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from flmm.checkpoint import part_name, publish
from flmm.config import TINY_CONFIG

Frame = tuple[Image.Image, int]  # a picture and how many milliseconds it stays
MOST_BYTES = 2_000_000
WAIT = 300_000  # milliseconds for a reply or mask, on a busy machine
PHRASES = 4  # that are clicked
REGION = ((0.2, 0.25), (0.6, 0.7))  # corners of the box that is drawn, as shares of the picture's width and height


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--url", help="address of a page that runs; without it one is started")
    add("--config", default=TINY_CONFIG, help="config of the model of the page that is started [%(default)s]")
    add("--checkpoint", help="its trained head [that of the tiny model]")
    add("--port", type=int, default=7899, help="its port [%(default)s]")
    add("--example", type=int, default=0, help="which example picture is opened [%(default)s]")
    add("--question", default="Please give me a description of the image.", help="what is asked [%(default)s]")
    add(
        "--size",
        type=int,
        nargs=2,
        default=(1080, 760),
        metavar=("WIDTH", "HEIGHT"),
        help="of the window [%(default)s]",
    )
    add("--out", type=Path, default=Path("docs/images/page.webp"), help=".webp or .gif [%(default)s]")
    args = parser.parse_args()
    try:
        with served(args) as url, browser_page(args.size) as page:
            frames = list(recorded(page, url, args.example, args.question))
        size = save_animation(frames, args.out)
    except (ValueError, OSError) as error:
        print(f"record_page.py: {error}", file=sys.stderr)
        return 1
    print(f"written: {args.out}, {len(frames)} frames, {size:,} bytes")
    return 0


@contextmanager
def served(args: argparse.Namespace) -> Iterator[str]:
    """The address of a page, one of this script's while it runs unless `--url` names another."""
    if args.url:
        yield args.url
        return
    url = f"http://127.0.0.1:{args.port}"
    command = [sys.executable, "-m", "flmm.cli.main", "web", "--config", args.config, "--port", str(args.port)]
    command += ["--checkpoint", args.checkpoint] if args.checkpoint else []
    with subprocess.Popen(command) as server:
        try:
            wait_for(url, server)
            yield url
        finally:
            server.terminate()


def wait_for(url: str, server: subprocess.Popen, seconds: float = 300) -> None:
    """Waits until a page answers; ValueError when it ends or takes too long."""
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise ValueError(f"`flmm web` does not answer at {url}: see what it says above, or pass --port")


@contextmanager
def browser_page(size: Sequence[int]) -> Iterator[Any]:
    """A window of Chromium.

    Raises:
        ValueError: When there is no Chromium or no playwright, or the page does something else than it should.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise ValueError("playwright is not installed: pip install playwright") from error
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise ValueError("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        viewport = {"width": size[0], "height": size[1]}
        page = browser.new_page(viewport=viewport, locale="en-US", color_scheme="light")
        page.set_default_timeout(WAIT)
        try:
            yield page
        except Error as error:
            raise ValueError(f"the page did not do what was expected of it: {error}") from error
        finally:
            browser.close()


def recorded(page: Any, url: str, example: int, question: str) -> Iterator[Frame]:
    """The conversation, frame by frame."""
    page.goto(url)
    page.locator(".tiles button").nth(example).click()
    page.wait_for_selector(".thumb")
    yield shot(page, 1200)
    for end in range(0, len(question), 14):
        page.fill("[name=question]", question[: end + 14])
        yield shot(page, 200)
    page.keyboard.press("Enter")
    yield from spoken(page)
    phrases = page.locator("article .phrase")
    for number in range(min(PHRASES, phrases.count())):
        phrases.nth(number).click()
        page.wait_for_function(f"document.querySelectorAll('article .phrase.found').length > {number}")
        yield shot(page, 1000)
    for view, milliseconds in (("attention", 1500), ("refined", 1000)):
        page.click(f"[data-view={view}]")
        yield shot(page, milliseconds)
    draw_box(page)
    yield shot(page, 2500)


def spoken(page: Any) -> Iterator[Frame]:
    """A reply while it is given, until its phrases can be clicked."""
    before, end = "", time.monotonic() + WAIT / 1000
    while not page.locator("article .phrase").count():
        if time.monotonic() > end:
            raise ValueError(f"no phrase of the reply after {WAIT // 1000} seconds; it says {before!r}")
        if (said := page.locator("article").last.inner_text() if page.locator("article").count() else "") != before:
            before = said
            yield shot(page, 250)
        page.wait_for_timeout(100)
    yield shot(page, 1200)


def draw_box(page: Any) -> None:
    """Draws a region with the mouse, and waits for the words that looked there."""
    area = page.locator(".stage canvas").bounding_box()
    places = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in REGION]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=6)
    page.mouse.up()
    page.wait_for_selector(".region .ranked li")


def shot(page: Any, milliseconds: int) -> Frame:
    """What the window shows, once its transitions have ended."""
    page.wait_for_timeout(350)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB"), milliseconds


def save_animation(frames: Sequence[Frame], path: Path, most: int = MOST_BYTES) -> int:
    """Writes a moving picture, as sharp as fits into a size; returns its bytes.

    Raises:
        ValueError: When there is no frame, or it does not fit.
    """
    if not frames:
        raise ValueError("nothing was recorded")
    if path.suffix not in (".webp", ".gif"):
        raise ValueError(f"cannot write a moving picture to {path}: end it in .webp or .gif")
    for scale in (1.0, 0.8, 0.65, 0.5):
        content = encoded(frames, scale, path.suffix)
        if len(content) <= most:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = part_name(path)
            part.write_bytes(content)
            publish(part, path)
            return len(content)
    raise ValueError(f"{len(frames)} frames take {len(content):,} bytes at half their size, over {most:,}: record less")


def encoded(frames: Sequence[Frame], scale: float, suffix: str) -> bytes:
    """The bytes of a moving picture that repeats for ever."""
    pictures = [
        image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS) for image, _ in frames
    ]
    if suffix == ".gif":
        pictures = [picture.quantize(128, dither=Image.Dither.NONE) for picture in pictures]
    content = io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": [time for _, time in frames], "loop": 0}
    pictures[0].save(content, suffix[1:], quality=82, method=4, **options)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(main())
