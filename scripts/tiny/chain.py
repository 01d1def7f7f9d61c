"""Visual chain of thought with the tiny LLaVA: name the object, find it, look at it closely, answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from dialogues import DIRECT, INSTRUCTION, REGION, THINK, THOUGHT, WHOLE
from PIL import Image


@dataclass(frozen=True)
class Seen:
    """What came of a question: the object that was named, its mask [H, W], and the answer."""

    thought: str
    mask: np.ndarray
    answer: str


def look_twice(model: Any, image: Image.Image, question: str) -> Seen:
    """VisCoT's v1."""
    thought = model.answer(image, f"{question} {THINK}", 24)
    words = str(thought)
    start = len(THOUGHT) + 1 if words.lower().startswith(THOUGHT.lower()) else 0
    end = words.find(" .", start) if " ." in words[start:] else len(words)
    if end <= start:
        return Seen(words, np.zeros((image.height, image.width), bool), "")
    mask = thought.ground([(start, end)]).masks[0]
    return Seen(words[start:end], mask, answer_pair(model, image, image.crop(crop_box(mask)), question))


def crop_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """VisCoT's box of a mask, x0, y0, x1, y1: at least 16 pixels wide; the whole picture for an empty one."""
    height, width = mask.shape
    y, x = mask.nonzero()
    if not len(x):
        return 0, 0, width, height
    sides = []
    for low, high, limit in ((x.min(), x.max(), width), (y.min(), y.max(), height)):
        middle, half = round((low + high) / 2), max((high - low) / 2, 8)
        sides.append((int(max(0, middle - half)), int(min(limit, middle + half))))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


@torch.no_grad()
def answer_pair(model: Any, whole: Image.Image, crop: Image.Image, question: str) -> str:
    """The answer to a question about a picture and its crop together."""
    lmm, builder = model.model.backbone.model, model.builder
    image = "<image>" * lmm.config.image_seq_length
    text = INSTRUCTION.format(input=f"{image}{WHOLE} {image}{REGION} {question}\n{DIRECT}")
    ids = torch.tensor([builder.tokenizer.encode(text)])
    pixels = torch.stack([builder.process(picture)["pixel_values"] for picture in (whole, crop)])
    out = lmm.generate(input_ids=ids, pixel_values=pixels, max_new_tokens=8, do_sample=False)
    return builder.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
