"""Talks to the LMM about pictures: asks, grounds what it said, and explains it. Without --question it asks you."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flmm.cli.ground import doubt
from flmm.cli.model_options import add_model_options, load_model
from flmm.cost import Cost, measured
from flmm.outputs import apart, writable

if TYPE_CHECKING:
    from flmm.chat import Conversation, Reply


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm chat`."""
    parser.add_argument("image", nargs="+", help="picture files; several for an LMM that reads several")
    parser.add_argument("--question", action="append", metavar="TEXT", help="ask this and end; repeat for more turns")
    parser.add_argument(
        "--ground",
        nargs="*",
        metavar="WORDS",
        help="ground these words of the last reply; all its phrases when no words follow",
    )
    parser.add_argument("--json", action="store_true", help="print replies, phrases, boxes and masks as JSON")
    parser.add_argument("--system", help="system text [none]")
    parser.add_argument("--max-new-tokens", type=int, default=200, help="longest reply [%(default)s]")
    parser.add_argument("--out", default="chat", help="folder for pictures and saved conversations [%(default)s]")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Asks the questions of the command line, or those that are typed.

    Raises:
        FileNotFoundError: When a picture, config or checkpoint does not exist.
        ValueError: When one of them cannot be read, or a question cannot be asked.
    """
    from flmm.api import as_picture

    if args.question is None and (args.json or args.ground is not None):
        raise ValueError("--json and --ground are for scripts: give a --question with them")
    if not all(question.strip() for question in args.question or ()):
        raise ValueError("a --question is empty: ask something about the picture")
    if args.ground is not None and not args.json:
        apart([drawing(args)], args.image)
    pictures = [as_picture(path) for path in args.image]  # errors in what was typed come before the model is loaded
    chat = load_model(args).chat(pictures, system=args.system)
    if args.question is None:
        from flmm.cli.repl import Session

        Session(chat, Path(args.out), args.max_new_tokens).run()
        return 0
    return answer(chat, args)


def drawing(args: argparse.Namespace) -> Path:
    """Where --ground draws."""
    return Path(args.out, "grounding.png")


def answer(chat: Conversation, args: argparse.Namespace) -> int:
    """Asks the questions of the command line, grounds the last reply if wanted, prints; 1 when that cannot be grounded.

    Replies come first: words that cannot be grounded do not lose them.
    """
    costs = []
    for question in args.question:
        with measured() as cost:
            reply = chat.ask(question, args.max_new_tokens)
        costs.append(cost)
        if not args.json:
            print(f"> {reply.question}\n{reply.text}{' ...' * reply.cut}\n({cost})")
    error = ground(chat.replies[-1], args)
    if args.json:
        replies = [written(one, cost) for one, cost in zip(chat.replies, costs, strict=True)]
        content = {"images": args.image, "replies": replies, "error": error}
        print(json.dumps(content, ensure_ascii=False, indent=1))
    else:
        for line in grounded_lines(chat.replies[-1]):
            print(line)
    if error:
        print(f"error: {error}", file=sys.stderr)
    return 1 if error else 0


def ground(reply: Reply, args: argparse.Namespace) -> str | None:
    """Grounds what --ground asks for; returns what is wrong with it."""
    try:
        if wanted := args.ground or (args.ground is not None and reply.phrases()):
            grounding = reply.ground(wanted)
            if not args.json:
                grounding.draw().save(writable(drawing(args)))
    except ValueError as error:
        return str(error)
    return None


def written(reply: Reply, cost: Cost) -> dict[str, Any]:
    """A reply with its phrases and what was grounded, as JSON."""
    return {
        "question": reply.question,
        "text": reply.text,
        "cut": reply.cut,
        "tokens": reply.tokens,
        "phrases": [phrase._asdict() for phrase in reply.phrases()],
        "grounded": [asdict(one) | {"phrase": one.phrase._asdict()} for one in reply.grounded],
        "seconds": round(cost.seconds, 3),
        "peak_mb": round(cost.megabytes),
    }


def grounded_lines(reply: Reply) -> list[str]:
    """A line for each phrase that was grounded: score, box, words."""
    boxes = [" ".join(f"{side:.0f}" for side in one.box) for one in reply.grounded]
    rows = zip(reply.grounded, boxes, strict=True)
    return [f"{one.score:.2f}  [{box}]  {one.phrase.text}{doubt(one.presence)}" for one, box in rows]
