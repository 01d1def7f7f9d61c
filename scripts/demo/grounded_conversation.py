"""Asks the LMM about a picture, then grounds the phrases of its answer: grounded_conversation.py IMAGE."""

import argparse

import flmm
from flmm.cli.ground import rows, writable
from flmm.config import TINY_CONFIG
from flmm.evaluation.tables import print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--config", default=TINY_CONFIG)
    parser.add_argument("--checkpoint", help="trained head [that of the tiny model]")
    parser.add_argument("--question", help="what to ask; by default the prompt of the config")
    parser.add_argument("--phrase", action="append", help="words of the answer to ground [its noun phrases]")
    parser.add_argument("--out", default="conversation.png")
    args = parser.parse_args()

    model = flmm.load(args.config, args.checkpoint)
    reply = model.answer(args.image, args.question)
    print(f"> {reply}")
    grounding = reply.ground(args.phrase)
    grounding.draw().save(writable(args.out))
    print_table(f"phrases drawn in {args.out}", ("phrase", "score", "pixels", "box x0 y0 x1 y1"), rows(grounding))


if __name__ == "__main__":
    main()
