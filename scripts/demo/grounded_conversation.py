"""Asks the LMM about a picture and masks phrases of its answer: grounded_conversation.py CONFIG --image photo.jpg."""

import argparse
from collections.abc import Sequence

import flmm
from flmm.api import as_picture
from flmm.cli.ground import rows
from flmm.cli.script import run_script
from flmm.evaluation.tables import print_table
from flmm.outputs import writable


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", help="config of the model [that of the checkpoint]")
    parser.add_argument("--image", required=True, help="picture file")
    parser.add_argument("--text", help="what to ask; by default the prompt of the config")
    parser.add_argument("--checkpoint", help="trained head [that of the tiny model]")
    parser.add_argument("--phrase", action="append", help="words of the answer to mask; repeat for more")
    parser.add_argument("--all", action="store_true", help="mask all phrases of the answer (so it is without --phrase)")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="longest answer [%(default)s]")
    parser.add_argument("--out", default="conversation.png", help="picture to write [%(default)s]")
    args = parser.parse_args(argv)
    if args.all and args.phrase:
        parser.error("--all masks every phrase: leave --phrase out")

    out = writable(args.out, args.image)
    picture = as_picture(args.image)  # errors in what was typed come before the model is loaded
    model = flmm.load(args.config, args.checkpoint)
    reply = model.chat(picture).ask(args.text, args.max_new_tokens)
    print(f"> {reply.question}\n{reply}")
    phrases = reply.phrases()
    print("phrases: " + (", ".join(phrase.text for phrase in phrases) or "none, name words of the answer (--phrase)"))
    if not (args.phrase or phrases):
        return
    grounding = reply.ground(args.phrase or phrases)
    grounding.draw().save(out)
    print_table(f"phrases drawn in {out}", ("phrase", "score", "pixels", "box x0 y0 x1 y1"), rows(grounding))


if __name__ == "__main__":
    run_script(main)
