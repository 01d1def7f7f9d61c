"""Many users of the page at the same time: every answer must come, and be about the picture of its user.

    python scripts/benchmark/web.py --users 20 --seconds 60

Starts `flmm web` on the embedded model in this process, and asks over HTTP as gradio_client does. Each user has a
picture of another color. What the model says about it, and the masks of a sentence, are known from the library.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from gradio_client import Client
from PIL import Image, ImageDraw

import flmm
from flmm.web.images import url
from flmm.web.limits import Limits
from flmm.web.server import serve

PATIENCE = 600  # seconds that a user waits for an answer
SENTENCE, PHRASES = "a shape on the ground", ["a shape", "the ground"]


@dataclass
class Tally:
    """What the users got.

    Attributes:
        seconds: Time of each answer.
        counts: How many answers were right, mixed up or lost.
        errors: What was said about those that were lost.
    """

    seconds: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


def picture_of(user: int) -> Image.Image:
    """A picture that no other user has: shape, place, color and size differ."""
    colors = ("red", "green", "blue", "orange", "purple", "black", "yellow")
    width, height = 140 + 4 * user, 168 - 2 * user
    image = Image.new("RGB", (width, height), (200 - 5 * user, 220, 120 + 5 * user))
    x, y = 20 + 13 * user % 70, 20 + 29 * user % 70
    pen = ImageDraw.Draw(image)
    (pen.ellipse if user % 2 else pen.rectangle)((x, y, x + 40, y + 40), fill=colors[user % len(colors)])
    return image


def expected(model: Any, user: int, question: str, tokens: int) -> tuple[str, list[Any]]:
    """What the library says about a user's picture, and where it finds the phrases of SENTENCE."""
    content = BytesIO()
    picture_of(user).save(content, "PNG")
    image = Image.open(content)
    boxes = model.ground(image, SENTENCE, PHRASES).boxes.tolist()
    return model.chat(image).ask(question, tokens).text, boxes


def near(boxes: list[Any], others: list[Any]) -> bool:
    """Whether boxes are the same but for a pixel: sums of another order may move an edge."""
    return (
        len(boxes) == len(others)
        and max(
            abs(side - other)
            for box, known in zip(boxes, others, strict=True)
            for side, other in zip(box, known, strict=True)
        )
        <= 1
    )


def use(address: str, user: int, right: tuple[str, list[Any]], until: float, tally: Tally, args: Any) -> None:
    """One user: a picture, then question and sentence in turn until the time is over, at least once."""
    waits = {"timeout": PATIENCE}  # else a busy machine loses answers that would come
    client = Client(address, verbose=False, download_files=False, httpx_kwargs=waits)
    try:
        client.predict(url(picture_of(user)), api_name="/open")
        while True:
            client.predict(api_name="/reset")
            for name, values, wanted in (
                ("ask", (args.question, str(args.tokens)), lambda found: found["text"] == right[0]),
                (
                    "say",
                    (SENTENCE, json.dumps(PHRASES)),
                    lambda found: near([one["box"] for one in found["found"]], right[1]),
                ),
            ):
                start = time.monotonic()
                found = client.predict(*values, api_name=f"/{name}")
                tally.seconds.append(time.monotonic() - start)
                tally.counts["right" if wanted(found) else "mixed"] += 1
            if time.monotonic() > until:
                break
    except Exception as error:  # an answer that did not come, whatever the reason
        tally.counts["lost"] += 1
        tally.errors[str(error)[:200]] += 1
    finally:
        client.close()


def main(argv: list[str] | None = None) -> int:
    """Runs the users; returns 1 when an answer was lost or mixed up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=12, help="longest reply")
    parser.add_argument("--question", default="Please give me a description of the image.")
    parser.add_argument("--config")
    parser.add_argument("--checkpoint")
    parser.add_argument("--device")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args(argv)
    model = flmm.load(args.config, args.checkpoint, args.device)
    tally = load(model, args)
    figures = {
        "users": args.users,
        "answers": len(tally.seconds),
        **{name: tally.counts[name] for name in ("right", "mixed", "lost")},
        "median_seconds": round(median(tally.seconds), 2) if tally.seconds else None,
        "longest_seconds": round(max(tally.seconds, default=0), 2),
        "errors": dict(tally.errors),
    }
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures))
    return int(tally.counts["mixed"] + tally.counts["lost"] > 0 or not tally.seconds)


def load(model: Any, args: Any) -> Tally:
    """Serves the page and lets the users use it."""
    right = [expected(model, user, args.question, args.tokens) for user in range(args.users)]
    page, address = serve(
        model, limits=Limits(seconds=PATIENCE, queue=4 * args.users, users=2 * args.users), wait=False
    )
    tally, until = Tally(), time.monotonic() + args.seconds
    users = [
        threading.Thread(target=use, args=(address, user, right[user], until, tally, args))
        for user in range(args.users)
    ]
    try:
        for user in users:
            user.start()
        for user in users:
            user.join()
    finally:
        page.close()
    return tally


if __name__ == "__main__":
    raise SystemExit(main())
