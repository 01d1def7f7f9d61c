"""Makes the README's moving picture of the web page: record_page.py drives Chromium through one conversation.

It looks for a validation picture of the shapes data that the model describes word for word, all masks of its phrases
right, and fails when there is none. Then it serves the page, takes that picture, asks, clicks the phrases of the
answer, and draws a box around one thing. It shows what the page did: only the pointer is drawn by this script.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import truth
from moving import Frame, save_animation
from PIL import Image
from tqdm import tqdm

import flmm
from flmm.config import TINY_CONFIG
from flmm.evaluation.plots.data import caption_text
from flmm.web.browser import window
from flmm.web.server import example_files, serve

Box = tuple[int, int, int, int]
WAIT = 300_000  # milliseconds for a reply or mask, on a busy machine
FEWEST = 4  # phrases of the answer
LARGEST = 0.2  # share of the picture that the thing in the box may cover
MARGIN = 12  # pixels of the picture between thing and box
EXAMPLES = 8  # pictures that the page offers
POINTER = """() => {
    const arrow = document.createElement('div');
    arrow.id = 'pointer';
    arrow.style = 'position: fixed; left: 0; top: 0; z-index: 99; pointer-events: none';
    arrow.innerHTML = '<svg width="26" height="30" viewBox="0 0 26 30"><path d="M2 2v22l6-5 4 9 5-2-4-9h8z" '
        + 'fill="#111" stroke="#fff" stroke-width="2"/></svg>';
    document.body.append(arrow);
}"""
POINT = "([x, y]) => { document.getElementById('pointer').style.transform = `translate(${x - 2}px, ${y - 2}px)`; }"


@dataclass(frozen=True)
class Scene:
    """A picture that the model is right about.

    Attributes:
        picture: Its file.
        question: What is asked.
        answer: What the model says.
        phrases: How many phrases it has.
        box: x0, y0, x1, y1 around the thing that `words` name, in pixels.
        words: The phrase that looked at the box most.
    """

    picture: Path
    question: str
    answer: str
    phrases: int
    box: Box
    words: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--config", default=TINY_CONFIG, help="config of the model [%(default)s]")
    add("--checkpoint", help="its trained head [that of the tiny model]")
    add("--data-root", type=Path, default=Path("data/shapes"), help="the shapes data [%(default)s]")
    add("--least", type=float, default=0.85, help="IoU that every mask has to reach [%(default)s]")
    size = {"type": int, "nargs": 2, "metavar": ("WIDTH", "HEIGHT")}
    add("--size", default=(1000, 700), help="of the window [%(default)s]", **size)
    add("--out", type=Path, default=Path("docs/images/page.gif"), help=".gif or .webp [%(default)s]")
    args = parser.parse_args()
    try:
        model = flmm.load(args.config, args.checkpoint)
        scene = find_scene(model, args.data_root, args.least)
        print(f"{scene.picture}: {scene.answer}")
        with served(model, scene) as url, window(args.size, WAIT) as page:
            frames = list(recorded(page, url, scene))
        size = save_animation(frames, args.out)
    except (ValueError, OSError) as error:
        print(f"record_page.py: {error}", file=sys.stderr)
        return 1
    print(f"written: {args.out}, {len(frames)} frames, {size:,} bytes")
    return 0


def find_scene(model: Any, root: Path, least: float) -> Scene:
    """The first picture that the model describes word for word, with right masks and a thing that its words looked at.

    Raises:
        ValueError: When there is none.
    """
    pictures = list(truth.narratives(root).items())
    described = 0
    for name, captions in tqdm(pictures, desc="pictures", unit="picture"):
        text, spans = caption_text(captions[0])
        if len(spans) < FEWEST:
            continue
        reply = model.chat(root / "val2017" / name).ask()
        said = [(phrase.start, phrase.end) for phrase in reply.phrases()]
        if not truth.same(reply.text, text) or said != list(spans):
            continue
        described += 1
        ids, phrases = truth.segments(root, captions[0]), truth.described(captions[0])
        if not truth.masks_right(reply.ground(spans), ids, phrases, least):
            continue
        for (start, end), phrase in zip(spans, phrases, strict=True):
            box = box_of(np.isin(ids, phrase))
            if box and reply.region_to_token(box=box).ranked("phrases")[0].phrase.text == text[start:end]:
                return Scene(root / "val2017" / name, reply.question, reply.text, len(spans), box, text[start:end])
    raise ValueError(
        f"none of {len(pictures)} pictures of {root} is described right with masks that all reach IoU {least} and a "
        f"thing that its words looked at most ({described} are described right): lower --least"
    )


def box_of(mask: np.ndarray) -> Box | None:
    """A box with a margin around one thing [H, W]; None when it is large."""
    if not 0 < mask.mean() <= LARGEST:
        return None
    (top, bottom), (left, right) = ((int(side.min()), int(side.max())) for side in mask.nonzero())
    height, width = mask.shape
    return max(0, left - MARGIN), max(0, top - MARGIN), min(width, right + MARGIN), min(height, bottom + MARGIN)


@contextmanager
def served(model: Any, scene: Scene) -> Iterator[str]:
    """The address of the page, which offers the scene's picture first."""
    others = [path for path in example_files(scene.picture.parent) if path != scene.picture]
    page, url = serve(model, examples=[scene.picture, *others[: EXAMPLES - 1]], wait=False)
    try:
        yield url
    finally:
        page.close()


def recorded(page: Any, url: str, scene: Scene) -> Iterator[Frame]:
    """The conversation, frame by frame.

    Raises:
        ValueError: When the page shows something else than what was found to be right.
    """
    page.goto(url)
    page.wait_for_selector(".tiles button")
    page.evaluate(POINTER)
    move(page, 0.3 * page.viewport_size["width"], 0.3 * page.viewport_size["height"])
    yield shot(page, 900)
    yield from pressed(page, page.locator(".tiles button").first, 500)
    page.wait_for_selector(".thumb")
    yield shot(page, 700)
    page.focus("[name=question]")
    for end in range(0, len(scene.question), 9):
        page.fill("[name=question]", scene.question[: end + 9])
        yield shot(page, 110, settle=50)
    page.keyboard.press("Enter")
    yield from spoken(page, scene)
    for number in range(scene.phrases):
        yield from pressed(page, page.locator("article .phrase").nth(number), 250)
        page.wait_for_function(f"document.querySelectorAll('article .phrase.found').length > {number}")
        yield shot(page, 900)
        for view in ("attention", "refined") if number == 0 else ():
            yield from pressed(page, page.locator(f"[data-view={view}]"), 250)
            yield shot(page, 900)
    for phrase in page.locator("article .phrase").all():  # the box is seen better without masks
        phrase.click()
    yield from drawn(page, scene)


def spoken(page: Any, scene: Scene) -> Iterator[Frame]:
    """The answer while it is given, until its phrases can be clicked."""
    before, end = "", time.monotonic() + WAIT / 1000
    while not page.locator("article .phrase").count():
        if time.monotonic() > end:
            raise ValueError(f"no phrase of the reply after {WAIT // 1000} seconds; it says {before!r}")
        texts = page.locator("article .text").all_inner_texts()
        if texts and texts[-1] != before:
            before = texts[-1]
            yield shot(page, 120, settle=0)
    if (said := page.evaluate("flmm.state.talk.turns[0].text")) != scene.answer:
        raise ValueError(f"the page says {said!r}, but the model said {scene.answer!r}")
    yield shot(page, 900)


def drawn(page: Any, scene: Scene) -> Iterator[Frame]:
    """A box that is drawn around a thing, and the words that looked there."""
    area, size = page.locator(".stage canvas").bounding_box(), page.evaluate("flmm.state.pictures.shown")
    scale = area["width"] / size["width"]
    x0, y0, x1, y1 = (scale * side + area["xy"[index % 2]] for index, side in enumerate(scene.box))
    move(page, x0, y0)
    yield shot(page, 400)
    page.mouse.down()
    for step in range(1, 6):
        move(page, x0 + (x1 - x0) * step / 5, y0 + (y1 - y0) * step / 5)
        yield shot(page, 100, settle=50)
    page.mouse.up()
    page.wait_for_selector(".region .ranked li")
    if (first := page.locator(".region .ranked li span").first.inner_text()) != scene.words:
        raise ValueError(f"the page says that {first!r} looked at the box most, but it is around {scene.words!r}")
    yield shot(page, 3500)


def pressed(page: Any, place: Any, milliseconds: int) -> Iterator[Frame]:
    """The pointer on its way to a place, which is then clicked."""
    area = place.bounding_box()
    move(page, area["x"] + 0.6 * area["width"], area["y"] + 0.6 * area["height"])
    yield shot(page, milliseconds, settle=150)
    place.click()


def move(page: Any, x: float, y: float) -> None:
    """Moves the mouse, and the arrow that stands for it."""
    page.mouse.move(x, y)
    page.evaluate(POINT, [x, y])


def shot(page: Any, milliseconds: int, settle: int = 350) -> Frame:
    """What the window shows, once its transitions have ended."""
    page.wait_for_timeout(settle)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB"), milliseconds


if __name__ == "__main__":
    sys.exit(main())
