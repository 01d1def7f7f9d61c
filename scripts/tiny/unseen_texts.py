"""Texts about unseen scenes by kind, with which a training measures itself."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from dialogues import BRIEFLY, CAPTION, DIRECT, Dialogue
from scene_pool import ScenePool
from text_batches import Texts, encode, encode_dialogue, pair_pieces
from transformers import PreTrainedTokenizerFast

from flmm.datasets.shapes.captions import caption, text_of
from flmm.datasets.shapes.implicit import sample_query
from flmm.datasets.shapes.questions import QUESTION_KINDS, sample_question, sign_question
from flmm.datasets.shapes.scene import Scene

COUNT = 100  # scenes


def unseen_texts(
    tokenizer: PreTrainedTokenizerFast, pool: ScenePool
) -> Iterator[tuple[list[list[str]], np.ndarray, Texts]]:
    """(kind of each text, pictures [N, 1 or 2], texts): about whole pictures, close-ups, and pairs of them."""
    half = len(pool.scenes) // 2
    rng = random.Random(0)
    whole = [whole_dialogues(scene, rng) for scene in pool.scenes[:COUNT]]
    chosen = np.arange(COUNT)[:, None]
    yield _kinds(whole), chosen, [[encode_dialogue(tokenizer, d) for _, d in named] for named in whole]
    signed = [i for i in range(half) if pool.scenes[i].shapes[pool.shown[half + i]].sign]
    asked = [(i, q) for i in signed if (q := sign_question(pool.scenes[i], int(pool.shown[half + i]), rng))][:COUNT]
    pictures = np.array([i for i, _ in asked])[:, None]
    direct = [Dialogue(((f"\n{q.text}\n{DIRECT}", q.answer),)) for _, q in asked]
    alone = [[encode_dialogue(tokenizer, dialogue)] for dialogue in direct]
    yield [["sign in whole"]] * len(asked), pictures, alone
    yield [["sign in close-up"]] * len(asked), half + pictures, alone
    pairs = [[encode(tokenizer, pair_pieces((f"{q.text}\n{DIRECT}", q.answer)))] for _, q in asked]
    yield [["sign in pair"]] * len(asked), np.concatenate([pictures, half + pictures], 1), pairs


def whole_dialogues(scene: Scene, rng: random.Random) -> list[tuple[str, Dialogue]]:
    """The caption, a question of each kind, an implicit query."""
    query = sample_query(scene, rng)
    words = query.text if query.is_sentence else f"What is {query.text} in this image?"
    made = [
        ("caption", Dialogue(((f"\n{CAPTION}", text_of(caption(scene))),))),
        ("query", Dialogue(((f"\n{words} {BRIEFLY}", f"It is {query.phrase}."),))),
    ]
    for kind in QUESTION_KINDS:
        if question := sample_question(scene, rng, kind):
            made.append((kind, Dialogue(((f"\n{question.text}\n{DIRECT}", question.answer),))))
    return made


def _kinds(named: list[list[tuple[str, Dialogue]]]) -> list[list[str]]:
    return [[kind for kind, _ in dialogues] for dialogues in named]
