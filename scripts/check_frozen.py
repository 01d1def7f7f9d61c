"""Compares the LMM's answers before and after training, ids and logits, bit for bit: check_frozen.py CONFIG."""

import argparse
import sys
from pathlib import Path

from flmm.config import build_model, read_config, sample_settings
from flmm.datasets.images import as_picture
from flmm.evaluation.tables import print_table
from flmm.training.frozen_check import Question, check_head, check_run

HEADER = ("answers", "tokens", "same ids", "same logits", "same LMM weights", "trained tensors")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("config")
    add("--prompts", help="file with a question in each line, or PICTURE<tab>QUESTION")
    add("--image", nargs="+", default=[], help="pictures to ask about [the first of the training data]")
    add("--steps", type=int, default=3, help="iterations of training between the answers")
    add("--checkpoint", help="head of a finished run, loaded between the answers instead of training")
    add("--max-new-tokens", type=int, default=32)
    args = parser.parse_args()
    try:
        found = check(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"check_frozen.py: {error}", file=sys.stderr)
        return 1
    row = [found.answers, found.tokens, found.same_ids, found.same_logits, str(found.same_weights), found.trained]
    print_table(f"{args.config}: before and after {args.checkpoint or f'{args.steps} steps'}", HEADER, [row])
    print("the LMM is untouched" if found.is_frozen else "NOT FROZEN: the LMM changed, or the head did not")
    return int(not found.is_frozen)


def check(args: argparse.Namespace):
    config = read_config(args.config)
    settings = sample_settings(config)
    asked = questions(args, config)
    if args.checkpoint:
        return check_head(build_model(config), args.checkpoint, settings, asked, args.max_new_tokens)
    return check_run(config, settings, asked, args.steps, args.max_new_tokens)


def questions(args: argparse.Namespace, config) -> list[Question]:
    """Pictures and questions: those of the file, or the config's prompt about a few pictures of its data."""
    lines = Path(args.prompts).read_text(encoding="utf-8").splitlines() if args.prompts else [""]
    lines = [line for line in lines if line.strip()] or [""]
    named = [line.partition("\t") for line in lines if "\t" in line]
    asked = [(as_picture(picture), question) for picture, _, question in named]
    plain = [line for line in lines if "\t" not in line]
    if not plain:
        return asked
    return asked + [(picture, question) for picture in pictures(args, config) for question in plain]


def pictures(args: argparse.Namespace, config):
    if args.image:
        return [as_picture(path) for path in args.image]
    from xtuner.registry import BUILDER

    data = BUILDER.build(config.train_dataloader.dataset)
    return [data[number]["image"].convert("RGB") for number in range(min(2, len(data)))]


if __name__ == "__main__":
    sys.exit(main())
