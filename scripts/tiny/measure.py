"""Measure all that the embedded models can do on unseen scenes: `python scripts/tiny/measure.py`, a few minutes.

Prints a table and writes the same figures as JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dialogues import BRIEFLY, DIRECT
from PIL import Image
from tqdm import tqdm

import flmm
from flmm.chat.visual_cot import VisualCoT
from flmm.datasets.shapes.captions import Segment, caption, caption_phrases, text_of
from flmm.datasets.shapes.coco_files import sentences
from flmm.datasets.shapes.drawing import render
from flmm.datasets.shapes.expressions import with_article, words_of
from flmm.datasets.shapes.free_texts import free_text, shuffled
from flmm.datasets.shapes.implicit import sample_query
from flmm.datasets.shapes.questions import QUESTION_KINDS, absent_sort, present_sort, sample_question
from flmm.datasets.shapes.scene import FIRST_SHAPE, Scene, sample_scene
from flmm.datasets.shapes.talk_files import sign_questions
from flmm.evaluation.presence import area_under_curve

UNSEEN_SEED = 10_600_000  # neither trained on nor looked at while training
Rows = dict[str, float]


class Unseen:
    """A scene that no training saw, as a JPEG shows it.

    Attributes:
        scene: The scene.
        image: Its picture.
        regions: [H, W] region map.
    """

    def __init__(self, seed: int) -> None:
        self.scene: Scene = sample_scene(seed)
        pixels, self.regions = render(self.scene)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        self.image = Image.open(file).convert("RGB")
        self.rng = random.Random(seed)

    def iou(self, mask: np.ndarray, regions: Sequence[int], ignored: Sequence[int] = ()) -> float:
        """IoU in percent of a mask with regions; what is `ignored` counts neither way."""
        scored = ~np.isin(self.regions, ignored)
        mask, true = mask & scored, np.isin(self.regions, regions) & scored
        return 100 * float((mask & true).sum() / max(1, (mask | true).sum()))


def ground_segments(model: Any, item: Unseen, text: list[Segment]) -> list[tuple[float, float]]:
    """IoU of the refined and the coarse mask of each phrase of a text."""
    words, spans, regions = "", [], []
    for segment in text:
        start = len(words) + bool(words)
        words = f"{words} {segment.utterance}" if words else segment.utterance
        if segment.regions:
            spans.append((start, len(words)))
            regions.append(segment.regions)
    found = model.ground(item.image, words, spans)
    masks = zip(found.masks, found.coarse_masks, regions, strict=True)
    return [(item.iou(refined, true), item.iou(coarse, true)) for refined, coarse, true in masks]


def measure_captions(model: Any, items: list[Unseen]) -> Rows:
    """Phrases of the caption in its order, alone, and shuffled; phrases of free texts."""
    results = defaultdict(list)
    for item in items:
        results["caption"] += ground_segments(model, item, caption(item.scene))
        results["shuffled"] += ground_segments(model, item, shuffled(item.scene, item.rng))
        results["free text"] += ground_segments(model, item, free_text(item.scene, item.rng))
        for phrase in caption_phrases(item.scene):
            results["phrase alone"] += ground_segments(model, item, [phrase])
            kind = "shape alone" if phrase.regions[0] >= FIRST_SHAPE else "band alone"
            results[kind].append(results["phrase alone"][-1])
    rows = {}
    for kind, values in results.items():
        refined, coarse = np.mean(values, axis=0)
        rows |= {f"{kind}, refined mIoU": refined, f"{kind}, coarse mIoU": coarse}
    return rows


def measure_expressions(model: Any, items: list[Unseen]) -> Rows:
    """RES of each variant, every sentence on its own and the first sentences of a picture together."""
    results = defaultdict(list)
    for item in items:
        for variant in ("refcoco", "refcoco+", "refcocog"):
            said = [(i, sentences(item.scene, i, variant)) for i in range(len(item.scene.shapes))]
            said = [(i, texts) for i, texts in said if texts]
            first = [part for i, texts in said for part in (Segment(texts[0], (FIRST_SHAPE + i,)), Segment("."))]
            if first:
                results[f"{variant} concat"] += ground_segments(model, item, first)
            for i, texts in said:
                for text in texts:
                    phrase = [Segment(text, (FIRST_SHAPE + i,)), Segment(".")]
                    results[f"{variant} per sentence"] += ground_segments(model, item, phrase)
    return {f"{kind}, refined mIoU": float(np.mean([v[0] for v in values])) for kind, values in results.items()}


def same(one: str, other: str) -> bool:
    """Whether two answers agree, whatever their case and full stop."""
    return one.lower().split() == other.lower().split()


def measure_answers(model: Any, items: list[Unseen]) -> Rows:
    """Exact captions, and exact answers to a question of each kind."""
    right = defaultdict(list)
    for item in items:
        right["exact captions"].append(same(str(model.answer(item.image)), text_of(caption(item.scene))))
        for kind in QUESTION_KINDS:
            if question := sample_question(item.scene, item.rng, kind):
                answer = str(model.answer(item.image, f"{question.text}\n{DIRECT}", 16))
                right[f"question: {kind}"].append(same(answer, question.answer))
                right["all questions"].append(right[f"question: {kind}"][-1])
    return {kind: 100 * float(np.mean(values)) for kind, values in right.items()}


def measure_signs(model: Any, items: list[Unseen]) -> Rows:
    """Signs read from the whole picture only (v3), and after naming, finding and cropping their shape (v1)."""
    right, overlap, cot = defaultdict(list), [], VisualCoT(model)
    for item in items:
        for question in sign_questions(item.scene):
            seen = cot(item.image, question.text, "v1")
            right["signs, after the chain (v1)"].append(same(seen.answer, question.answer))
            answer = cot(item.image, question.text, "v3").answer
            right["signs, whole picture (v3)"].append(same(answer, question.answer))
            overlap.append(0.0 if seen.mask is None else item.iou(seen.mask, question.regions))
    rows = {kind: 100 * float(np.mean(values)) for kind, values in right.items()}
    return rows | {"signs, IoU of the region": float(np.mean(overlap))}


def measure_queries(model: Any, items: list[Unseen]) -> Rows:
    """Implicit queries, short and long: the phrase of the answer, grounded where it was said."""
    overlap = defaultdict(list)
    for number, item in enumerate(items):
        query = sample_query(item.scene, item.rng, is_sentence=number % 2 == 1)
        words = query.text if query.is_sentence else f"What is {query.text} in this image?"
        reply = model.answer(item.image, f"{words} {BRIEFLY}", 16)
        mask = reply.ground().masks.any(0) if reply.phrases() else np.zeros(item.regions.shape, bool)
        band = query.regions[0]
        on_it = [FIRST_SHAPE + i for i in item.scene.members(band)] if band < FIRST_SHAPE else []
        value = item.iou(mask, query.regions, on_it)
        overlap["implicit queries, gIoU"].append(value)
        overlap[f"implicit queries, {'long' if query.is_sentence else 'short'}, gIoU"].append(value)
    return {kind: float(np.mean(values)) for kind, values in overlap.items()}


def measure_presence(model: Any, items: list[Unseen]) -> Rows:
    """How well the score tells what is in the picture from what is not."""
    scores: dict[bool, list[float]] = {True: [], False: []}
    for item in items:
        for there, draw in ((True, present_sort), (False, absent_sort)):
            words = with_article(words_of(draw(item.scene, item.rng)))
            scores[there].append(float(model.ground(item.image, words).scores[0]))
    return {"score: AUC of present against absent, percent": 100 * area_under_curve(scores[True], scores[False])}


# What is measured, and on how many scenes.
PARTS: dict[str, tuple[Callable[[Any, list[Unseen]], Rows], int]] = {
    "captions": (measure_captions, 40),
    "expressions": (measure_expressions, 20),
    "answers": (measure_answers, 60),
    "signs": (measure_signs, 50),
    "queries": (measure_queries, 80),
    "presence": (measure_presence, 100),
}


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    model = flmm.load(args.config, args.checkpoint)
    rows: Rows = {}
    for name in args.parts:
        function, count = PARTS[name]
        start, count = time.time(), max(1, round(count * args.share))
        items = [Unseen(UNSEEN_SEED + i) for i in range(count)]
        rows |= function(model, tqdm(items, desc=name, disable=None))  # type: ignore[arg-type]
        print(f"{name}: {count} scenes, {time.time() - start:.0f} s")
    for name, value in rows.items():
        print(f"{name:50s} {value:7.2f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="by default that of the head")
    parser.add_argument("--checkpoint", help="head; by default the one in git")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/tiny_llava/measured.json"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--share", type=float, default=1.0, help="of the scenes of each part")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
