"""Tokenized dialogues about many scenes, and batches of them: several texts after one picture."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from dialogues import INSTRUCTION, REGION, WHOLE, Dialogue, closeup_dialogue, pair_text, sample_dialogue
from scene_pool import ScenePool
from tiny_parts import build_tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from flmm.datasets.shapes.scene import Scene

ROW = 76  # tokens of a row
IGNORE = -100
LEARNED_WEIGHT = 6.0
Text = tuple[np.ndarray, np.ndarray]  # token ids, and which of them the LMM says
Texts = list[list[Text]]


@dataclass
class TextPool:
    """Texts by picture: `single` as the pool's pictures, `pairs` about a whole picture with its close-up."""

    single: Texts
    pairs: Texts


@dataclass
class Batch:
    """What the LMM reads: a prefix with pictures, then R rows of T tokens.

    Attributes:
        ids: [B, P + R * T].
        positions: [B, P + R * T], each text's begin after the prefix.
        mask: [B, 1, R, T, T] additive.
        labels: [B, R * T] next tokens, `IGNORE` where the LMM does not speak.
        weights: [B, R * T] of the labels in the loss, see `answer_weights`.
        texts: [B, R * T] number of the text that the label belongs to, -1 for none.
        prefix: P.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    weights: Tensor
    texts: Tensor
    prefix: int


def encode(tokenizer: PreTrainedTokenizerFast, pieces: Iterator[tuple[str, bool]]) -> Text:
    """Ids and marks of the pieces of a dialogue."""
    ids: list[int] = []
    said: list[bool] = []
    for text, speaks in pieces:
        piece = tokenizer.encode(text, add_special_tokens=False)
        ids += piece
        said += [speaks] * len(piece)
    return np.array(ids, np.int16), np.array(said)


def encode_dialogue(tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue) -> Text:
    """As many turns as fit a row."""
    for count in range(len(dialogue.turns), 0, -1):
        text = encode(tokenizer, Dialogue(dialogue.turns[:count]).pieces())
        if len(text[0]) <= ROW:
            break
    return text


def pair_pieces(turn: tuple[str, str]) -> Iterator[tuple[str, bool]]:
    """What follows the prefix of two pictures."""
    yield turn[0] + INSTRUCTION.split("{input}")[1], False
    yield turn[1] + "</s>", True


def prefix_ids(tokenizer: PreTrainedTokenizerFast, image_tokens: int, pictures: int) -> list[int]:
    """Ids up to the last common token of one or two pictures."""
    image = "<image>" * image_tokens
    start = INSTRUCTION.split("{input}")[0]
    return tokenizer.encode(start + (image if pictures == 1 else f"{image}{WHOLE} {image}{REGION}"))


def make_texts(
    pool: ScenePool, seed: int, counts: tuple[int, int, int], workers: int = 2, file: Path | None = None
) -> TextPool:
    """Draw texts about a pool with close-ups: `counts` per whole picture, close-up and pair."""
    if file and file.is_file():
        return pickle.loads(file.read_bytes())
    half = len(pool.scenes) // 2
    work = [(pool.scenes[i], int(pool.shown[half + i]), seed * 1_000_003 + i, counts) for i in range(half)]
    with ProcessPoolExecutor(workers) as executor:
        made = list(executor.map(_texts_of, work, chunksize=128))
    whole, close, pairs = (list(part) for part in zip(*made, strict=True))
    texts = TextPool(whole + close, pairs)
    if file:
        file.write_bytes(pickle.dumps(texts))
    return texts


_TOKENIZERS: list[PreTrainedTokenizerFast] = []


def _texts_of(work: tuple[Scene, int, int, tuple[int, int, int]]) -> tuple[list[Text], list[Text], list[Text]]:
    scene, shown, seed, counts = work
    if not _TOKENIZERS:
        _TOKENIZERS.append(build_tokenizer())
    tokenizer, rng = _TOKENIZERS[0], random.Random(seed)
    whole = [encode_dialogue(tokenizer, sample_dialogue(scene, rng)) for _ in range(counts[0])]
    close = [encode_dialogue(tokenizer, closeup_dialogue(scene, shown, rng)) for _ in range(counts[1])]
    pairs = [encode(tokenizer, pair_pieces(pair_text(scene, shown, rng))) for _ in range(counts[2])]
    return whole, close, pairs


def begins_with(tokens: np.ndarray, said: np.ndarray, words: np.ndarray) -> bool:
    """Whether the first answer begins with these ids."""
    first = int(said.argmax())
    return np.array_equal(tokens[first : first + len(words)], words)


def answer_weights(said: np.ndarray) -> np.ndarray:
    """Weight of each token in the loss: up to four times as much in short answers, which would drown in captions."""
    starts = np.flatnonzero(np.diff(said, prepend=False, append=False))
    weights = np.zeros(len(said), np.float32)
    for begin, end in zip(starts[::2], starts[1::2], strict=True):
        weights[begin:end] = np.clip(8 / (end - begin), 1, 4)
    return weights


def pack(
    prefix: list[int],
    choices: Texts,
    rows: int,
    pad: int,
    rng: random.Random | None = None,
    learned: list[list[np.ndarray]] | None = None,
) -> Batch:
    """Fill each picture's rows with its texts, in random order, first come first served.

    Answers that begin with one of the ids in `learned`, of each picture, count `LEARNED_WEIGHT` times: the caption in
    reading order and VisCoT's thoughts have to be said word by word, among many texts that only have to be understood.
    """
    count = len(choices)
    ids = np.full((count, rows, ROW), pad, np.int64)
    numbers = np.full((count, rows, ROW), -1, np.int64)
    labels = np.full((count, rows, ROW), IGNORE, np.int64)
    positions = np.zeros((count, rows, ROW), np.int64)
    weights = np.zeros((count, rows, ROW), np.float32)
    for b, texts in enumerate(choices):
        free = [0] * rows
        for number in rng.sample(range(len(texts)), len(texts)) if rng else range(len(texts)):
            tokens, said = texts[number]
            size = len(tokens)
            row = next((r for r in range(rows) if free[r] + size <= ROW), None)
            if row is None:
                continue
            place = np.s_[b, row, free[row] : free[row] + size]
            ids[place], numbers[place] = tokens, number
            positions[place] = len(prefix) + np.arange(size)
            labels[b, row, free[row] : free[row] + size - 1] = np.where(said[1:], tokens[1:], IGNORE)
            weight = answer_weights(said)[1:]
            if learned is not None and any(begins_with(tokens, said, words) for words in learned[b]):
                weight = weight * LEARNED_WEIGHT
            weights[b, row, free[row] : free[row] + size - 1] = weight
            free[row] += size
    same = torch.from_numpy((numbers[..., :, None] == numbers[..., None, :]) & np.tri(ROW, dtype=bool))
    mask = torch.zeros(same.shape).masked_fill(~same, -1e4)[:, None]
    start = torch.tensor(prefix).expand(count, -1)
    spoken = np.where(labels >= 0, numbers, -1)
    flat = [torch.from_numpy(array).flatten(1) for array in (ids, positions, labels, weights, spoken)]
    return Batch(
        torch.cat([start, flat[0]], 1),
        torch.cat([torch.arange(len(prefix)).expand(count, -1), flat[1]], 1),
        mask,
        flat[2],
        flat[3],
        flat[4],
        len(prefix),
    )
