"""What the tiny LMM reads in each step: several new texts after each picture."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from dialogues import INSTRUCTION, REGION, THOUGHT, WHOLE, Dialogue, closeup_dialogue, pair_text, sample_dialogue
from scene_pool import ScenePool
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from flmm.datasets.shapes.captions import caption, text_of

ROW = 76  # tokens of a row
ROWS, PAIR_ROWS = 3, 1
PAIR_EVERY = 4  # steps
MOST = 4  # texts about a close-up, or about it and its picture, which are short
LEARNED_WEIGHT = 6.0
Text = tuple[np.ndarray, np.ndarray]  # token ids, and which of them the LMM says
Texts = list[list[Text]]


@dataclass
class Batch:
    """What the LMM reads: a prefix with pictures, then R rows of T tokens.

    Attributes:
        ids: [B, P + R * T].
        positions: [B, P + R * T], each text's begin after the prefix.
        texts: [B, R, T] number of the text that a token belongs to, -1 for none.
        spoken: [N] places in [B * R * T] whose next token the LMM says.
        labels: [N] these next tokens.
        weights: [N] of the labels in the loss, see `answer_weights`.
        prefix: P.
    """

    ids: Tensor
    positions: Tensor
    texts: Tensor
    spoken: Tensor
    labels: Tensor
    weights: Tensor
    prefix: int

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        values = (getattr(self, field.name) for field in fields(self))
        return Batch(*(v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for v in values))

    def mask(self) -> Tensor:
        """Additive [B, 1, R, T, T]: a token sees those before it in its text."""
        same = (self.texts[..., :, None] == self.texts[..., None, :]).tril()
        return torch.zeros(same.shape, device=same.device).masked_fill(~same, -1e4)[:, None]


@dataclass
class Step:
    """The pictures and texts of one step.

    Attributes:
        pictures: Indices in the pool, of whole pictures, then of close-ups.
        single: Texts about each.
        pair: Index of whole pictures, and texts about each with its close-up; in one of `PAIR_EVERY` steps.
    """

    pictures: np.ndarray
    single: Batch
    pair: tuple[np.ndarray, Batch] | None


class Steps(Dataset):
    """All steps of a training. A step hangs on the seed and its number alone, whichever process makes it.

    Args:
        pool: Scenes with close-ups.
        tokenizer: Of the LMM.
        image_tokens: Of one picture.
        sizes: Whole pictures, close-ups and pairs of a step.
        numbers: Of the steps.
        seed: Of all.
    """

    def __init__(
        self,
        pool: ScenePool,
        tokenizer: PreTrainedTokenizerFast,
        image_tokens: int,
        sizes: tuple[int, int, int],
        numbers: range,
        seed: int,
    ) -> None:
        self.scenes, self.shown, self.half = pool.scenes, pool.shown, len(pool.scenes) // 2
        self.tokenizer, self.sizes, self.numbers, self.seed = tokenizer, sizes, numbers, seed
        self.prefixes = [prefix_ids(tokenizer, image_tokens, pictures) for pictures in (1, 2)]
        self.thought = self._ids(THOUGHT)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Step:
        rng = random.Random(f"{self.seed} {self.numbers[index]}")
        wide, close, pairs = (rng.sample(range(self.half), size) for size in self.sizes)
        filled = [self._fill(ROWS, lambda i=i: self._about(i, rng)) for i in wide]
        filled += [self._fill(ROWS, lambda i=i: self._about_closeup(i, rng), MOST) for i in close]
        learned = [[self._ids(text_of(caption(self.scenes[i])) + "</s>"), self.thought] for i in wide + close]
        single = pack(self.prefixes[0], filled, ROWS, self.tokenizer.pad_token_id, learned)
        pair = None
        if self.numbers[index] % PAIR_EVERY == 0:
            filled = [self._fill(PAIR_ROWS, lambda i=i: self._about_pair(i, rng), MOST) for i in pairs]
            pair = np.array(pairs), pack(self.prefixes[1], filled, PAIR_ROWS, self.tokenizer.pad_token_id)
        return Step(np.array(wide + [self.half + i for i in close]), single, pair)

    def _about(self, index: int, rng: random.Random) -> Text:
        return encode_dialogue(self.tokenizer, sample_dialogue(self.scenes[index], rng))

    def _about_closeup(self, index: int, rng: random.Random) -> Text:
        shown = int(self.shown[self.half + index])
        return encode_dialogue(self.tokenizer, closeup_dialogue(self.scenes[index], shown, rng))

    def _about_pair(self, index: int, rng: random.Random) -> Text:
        turn = pair_text(self.scenes[index], int(self.shown[self.half + index]), rng)
        return encode(self.tokenizer, pair_pieces(turn))

    def _fill(self, rows: int, draw: Callable[[], Text], most: int = 20) -> list[Text]:
        """Texts that fit the rows, until two did not."""
        texts, free, misses = [], [ROW] * rows, 0
        while len(texts) < most and misses < 2:
            text = draw()
            if take_room(free, len(text[0])) is None:
                misses += 1
            else:
                texts.append(text)
        return texts

    def _ids(self, text: str) -> np.ndarray:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False))


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


def take_room(free: list[int], size: int) -> tuple[int, int] | None:
    """Take the first row with room for a text: (row, where the text begins), None when there is none.

    Args:
        free: Tokens left in each row, of `ROW` each.
        size: Tokens of the text.
    """
    row = next((r for r, left in enumerate(free) if size <= left), None)
    if row is None:
        return None
    free[row] -= size
    return row, ROW - free[row] - size


def pack(
    prefix: list[int], choices: Texts, rows: int, pad: int, learned: list[list[np.ndarray]] | None = None
) -> Batch:
    """Put the texts of each picture into its rows, each into the first with room; what has none is left out.

    Answers that begin with one of the ids in `learned`, of each picture, count `LEARNED_WEIGHT` times: the caption in
    reading order and VisCoT's thoughts have to be said word by word, among many texts that only have to be understood.
    """
    shape = (len(choices), rows, ROW)
    ids, numbers = np.full(shape, pad, np.int64), np.full(shape, -1, np.int64)
    labels, positions, weights = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for b, texts in enumerate(choices):
        free = [ROW] * rows
        for number, (tokens, said) in enumerate(texts):
            size = len(tokens)
            if (room := take_room(free, size)) is None:
                continue
            row, start = room
            place, before = np.s_[b, row, start : start + size], np.s_[b, row, start : start + size - 1]
            ids[place], numbers[place] = tokens, number
            positions[place] = len(prefix) + np.arange(size)
            is_learned = learned is not None and any(begins_with(tokens, said, words) for words in learned[b])
            labels[before] = tokens[1:]
            weights[before] = answer_weights(said)[1:] * (LEARNED_WEIGHT if is_learned else 1)
    spoken = np.flatnonzero(weights)
    head = torch.tensor(prefix).expand(len(choices), -1)
    return Batch(
        torch.cat([head, torch.from_numpy(ids).flatten(1)], 1),
        torch.cat([torch.arange(len(prefix)).expand(len(choices), -1), torch.from_numpy(positions).flatten(1)], 1),
        torch.from_numpy(numbers),
        torch.from_numpy(spoken),
        torch.from_numpy(labels.flatten()[spoken]),
        torch.from_numpy(weights.flatten()[spoken]),
        len(prefix),
    )
