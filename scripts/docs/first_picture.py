"""Makes the README's first picture: a free sentence and an answer, each with its masks, all checked against the truth.

python scripts/docs/first_picture.py goes through the validation pictures of the shapes data until one has a sentence
of three phrases or more and a right answer whose masks all reach the least IoU. It fails when there is none.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import truth
from PIL import Image
from tqdm import tqdm

import flmm
from flmm.config import TINY_CONFIG
from flmm.datasets.captions import Caption
from flmm.evaluation.drawings import GAP, PAPER, save_picture
from flmm.evaluation.plots.data import caption_text
from flmm.evaluation.plots.scene import draw_scene

FEWEST = 3  # phrases of the sentence


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--config", default=TINY_CONFIG, help="config of the model [%(default)s]")
    add("--checkpoint", help="trained head [that of the tiny model]")
    add("--data-root", type=Path, default=Path("data/shapes"), help="the shapes data [%(default)s]")
    add("--least", type=float, default=0.85, help="IoU that every mask has to reach [%(default)s]")
    add("--out", default="docs/images/first.png", help="picture to write [%(default)s]")
    args = parser.parse_args()
    try:
        shown = find(flmm.load(args.config, args.checkpoint), args.data_root, args.least)
    except (ValueError, FileNotFoundError) as error:
        print(f"first_picture.py: {error}", file=sys.stderr)
        return 1
    save_picture(side_by_side(shown), args.out)
    print(f"written: {args.out}")
    return 0


def find(model: Any, root: Path, least: float) -> list[Image.Image]:
    """The sentence and the answer of the first picture where both are right.

    Raises:
        ValueError: When there is none.
    """
    asked = questions(root)
    pictures = list(truth.narratives(root).items())
    sentences = 0
    for name, captions in tqdm(pictures, desc="pictures", unit="picture"):
        ids = truth.segments(root, captions[0])
        image = root / "val2017" / name
        sentence = right_sentence(model, image, captions[1:], ids, least)
        sentences += sentence is not None
        answer = sentence and right_answer(model, image, asked[name], captions[0], ids, least)
        if sentence and answer:
            return [sentence, answer]
    raise ValueError(
        f"none of {len(pictures)} pictures of {root} has a free sentence and an answer whose masks all reach IoU "
        f"{least} ({sentences} have such a sentence): lower --least"
    )


def questions(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The questions about each validation picture that point at something."""
    content = json.loads((root / "annotations/questions_val2017.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for question in content["questions"]:
        if question["segment_ids"]:
            found[names[question["image_id"]]].append(question)
    return found


def right_sentence(model: Any, image: Path, captions: list[Caption], ids: np.ndarray, least: float) -> Any:
    """The drawing of the longest free sentence whose phrases are all found; None when there is none."""
    for caption in sorted(captions, key=lambda one: -len(one.segments)):
        phrases = truth.described(caption)
        if len(phrases) < FEWEST:
            continue
        text, spans = caption_text(caption)
        grounding = model.ground(image, text, spans)
        if truth.masks_right(grounding, ids, phrases, least):
            return draw_scene(grounding)
    return None


def right_answer(
    model: Any, image: Path, asked: list[dict[str, Any]], caption: Caption, ids: np.ndarray, least: float
) -> Any:
    """The drawing of the first right answer whose masks are right: to a question, else to the prompt of the config."""
    text, spans = caption_text(caption)
    answers = [(q["question"], q["answer"], [(0, len(q["answer"]))], [list(map(int, q["segment_ids"]))]) for q in asked]
    for question, answer, places, segments in [*answers, (None, text, spans, truth.described(caption))]:
        reply = model.chat(image).ask(question)
        if not truth.same(reply.text, answer):
            continue
        grounding = reply.ground(places)
        if truth.masks_right(grounding, ids, segments, least):
            return draw_scene(grounding, reply.question)
    return None


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one width, their lower edges in line."""
    width = sum(picture.width + 2 * GAP for picture in pictures) + 2 * GAP
    canvas = Image.new("RGB", (width, max(picture.height for picture in pictures) + 4 * GAP), PAPER)
    x = 2 * GAP
    for picture in pictures:
        canvas.paste(picture, (x, canvas.height - 2 * GAP - picture.height))
        x += picture.width + 2 * GAP
    return canvas


if __name__ == "__main__":
    sys.exit(main())
