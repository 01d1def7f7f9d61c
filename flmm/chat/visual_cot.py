"""Visual chain of thought: name the object that matters, find it, look at it closely, then answer."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import StoppingCriteriaList

from flmm.api import GroundingModel
from flmm.chat.conversation import Conversation
from flmm.chat.look import crop_box
from flmm.chat.prompt import Picture, Prompt
from flmm.chat.streaming import StopAtText
from flmm.datasets.prompts import Turn
from flmm.datasets.sample import SampleBuilder
from flmm.datasets.visual_cot import Box
from flmm.models.backbone import Reading

THINKING = ("v1", "v2")
# What the region is worth: the true one, others, none at all (v3), and the question alone.
ABLATIONS = ("true_box", "random", "center", "text_only")
VERSIONS = (*THINKING, "v3", *ABLATIONS)
THOUGHT_TOKENS = 15  # the reference asks for 16 and drops the last one
ANSWER_TOKENS = 32


@dataclass(frozen=True)
class CotPrompts:
    """Hold what is said to the LMM; a config's `visual_cot` can say it otherwise.

    Attributes:
        think: First question of v1.
        thought: How the reply to it begins.
        look: Question about the picture and its crop.
        brief: What follows every question that is to be answered.
        system: System text of the questions that are to be answered.
    """

    think: str = "{question} First think which object in this image is most relevant to the question."
    thought: str = " The object most relevant to the question is"
    look: str = (
        "<image>the whole image, <image>the image region that might help you answer the question: {question}{brief}"
    )
    brief: str = "\nAnswer the question using a single word or phrase."
    system: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CotPrompts:
        """Read the prompts of a config file."""
        return cls(**config.get("visual_cot", {}))


@dataclass(frozen=True)
class Chain:
    """Hold what came of a question.

    Attributes:
        thought: The object that the LMM named; empty for other versions than v1.
        box: x0, y0, x1, y1 of the region that was looked at, in pixels; the whole picture when there was none.
        mask: [H, W] bool, the region; None where no mask was made.
        answer: The answer.
    """

    thought: str
    box: Box
    mask: np.ndarray | None
    answer: str


class VisualCoT:
    """Answer questions with or without a chain of thought.

    Args:
        model: The model.
        prompts: What is said to the LMM.
        box_scale: Factor on the sides of the box.
        coarse: Find regions with the U-Net alone (`--discard_sam`).
    """

    def __init__(
        self, model: GroundingModel, prompts: CotPrompts | None = None, box_scale: float = 1.0, coarse: bool = False
    ):
        self.model, self.prompts = model, prompts or CotPrompts()
        self.box_scale, self.coarse = box_scale, coarse
        self._reading = question_builder(model.builder)

    def __call__(
        self, image: Any, question: str, version: str = "v1", true_box: Box | None = None, seed: int = 0
    ) -> Chain:
        """Answer a question.

        Args:
            image: A file, PIL picture or array.
            question: The question.
            version: One of VERSIONS. v1 finds the object that the LMM names, v2 the words of the question, v3 looks
                at the whole picture only; the others look at the true box, at one of its size elsewhere, at the middle
                of the picture, or see a gray picture.
            true_box: Where the answer is, for 'true_box' and 'random'; without it they look at the whole picture.
            seed: Of 'random'.

        Raises:
            ValueError: For an unknown version or an empty question.
        """
        if version not in VERSIONS:
            raise ValueError(f"version {version!r} is unknown: there are {', '.join(VERSIONS)}")
        picture = Picture.of(self.model, image)
        thought, mask = "", None
        if version == "v1":
            thought, mask = self._think(picture, question)
        elif version == "v2":
            mask = self._find_question(picture, question)
        box = self._box(version, picture.image.size, mask, true_box, seed)
        if version in ("v3", "text_only"):
            shown = Image.new("RGB", picture.image.size, (128, 128, 128)) if version == "text_only" else picture.image
            answer = self._ask([shown], question)
        else:
            answer = self._ask([picture.image, picture.image.crop(box)], question)
        return Chain(thought, box, mask, answer)

    def _think(self, picture: Picture, question: str) -> tuple[str, np.ndarray | None]:
        """Get the object that the LMM names, and its mask; no mask when it names nothing."""
        tokenizer = self.model.builder.tokenizer
        asked = Turn(self.prompts.think.format(question=question), pictures=1)
        begun = Prompt(self.model, (picture,), (asked,)).sample(self._begin_reply())
        ends = StopAtText(tokenizer.decode, [".", *self.model.builder.format.template.get("STOP_WORDS", [])])
        rules = {"do_sample": False, "stopping_criteria": StoppingCriteriaList([ends])}
        answer = self.model.model.read.generate(begun, THOUGHT_TOKENS, **rules)
        text = tokenizer.decode(answer.token_ids, skip_special_tokens=True).strip()
        if not text:
            return "", None
        return text, self._mask(answer.reading(torch.zeros_like(answer.token_ids)), begun, picture, text)

    def _ids_behind(self, start: str, text: str, special: bool) -> list[int]:
        """Give the ids of a text as it is tokenized right behind another one; alone where a token spans both."""
        encode = self.model.builder.tokenizer.encode
        before, both = (encode(words, add_special_tokens=special) for words in (start, start + text))
        return both[len(before) :] if both[: len(before)] == before else encode(text, add_special_tokens=False)

    def _begin_reply(self) -> list[int]:
        """Give the ids of `thought` as it is tokenized right behind the template."""
        tail = self.model.builder.format.template["INSTRUCTION"].partition("{input}")[2]
        return self._ids_behind(tail, self.prompts.thought, special=False)

    def _find_question(self, picture: Picture, question: str) -> np.ndarray:
        """Make the mask of what all words of the question attend to."""
        ids = self._ids_behind(self._reading.prompt_text, question, special=True)
        if not ids:
            raise ValueError("the question is empty: ask something about the picture")
        sample = self._reading.builder.build(picture.small, ids, [0] * len(ids), processed=picture.processed)
        return self._mask(self.model.model.read([sample])[0], sample, picture, question)

    def _mask(self, reading: Reading, sample: dict[str, Any], picture: Picture, text: str) -> np.ndarray:
        grounding = self.model.ground_reading(reading, sample, picture.image, text, [(0, len(text))])
        return (grounding.coarse_masks if self.coarse else grounding.masks)[0]

    def _box(
        self, version: str, size: tuple[int, int], mask: np.ndarray | None, true_box: Box | None, seed: int
    ) -> Box:
        width, height = size
        if mask is not None:
            return crop_box(mask, self.box_scale)
        if version == "center":
            return width // 4, height // 4, max(1, width * 3 // 4), max(1, height * 3 // 4)
        if version in ("true_box", "random") and true_box is not None:
            region = np.zeros((height, width), dtype=bool)
            x0, y0, x1, y1 = elsewhere(true_box, size, seed) if version == "random" else true_box
            region[y0:y1, x0:x1] = True
            return crop_box(region, self.box_scale)
        return 0, 0, width, height

    def _ask(self, images: list[Image.Image], question: str) -> str:
        """Ask about a picture, or about a picture and its crop; the crop alone where the LMM reads one."""
        words, several = self.prompts, self.model.builder.format.several
        if len(images) > 1 and several:
            asked = words.look.format(question=question, brief=words.brief)
        else:
            images, asked = images[-1:], question + words.brief
        return Conversation(self.model, images, words.system, memory=0).ask(asked, ANSWER_TOKENS).text


@dataclass(frozen=True)
class QuestionBuilder:
    """Build samples in which a question is read as a text about the picture.

    Attributes:
        builder: Its prompt ends where the question begins.
        prompt_text: That prompt.
    """

    builder: SampleBuilder
    prompt_text: str


def question_builder(builder: SampleBuilder) -> QuestionBuilder:
    """Make a builder that writes questions where another one writes its prompt; it takes the other's parts."""
    start = builder.format.template["INSTRUCTION"].partition("{input}")[0]
    template = {**builder.format.template, "INSTRUCTION": start + "{input}"}
    parts = builder.image_processor, builder.tokenizer, template, builder.format.picture
    asking = SampleBuilder(*parts, builder.image2tensor, builder.add_image_token, builder.image_token)
    return QuestionBuilder(asking, start + builder.format.picture)


def elsewhere(box: Box, size: tuple[int, int], seed: int) -> Box:
    """Draw a box of the same size at a random place in a picture of `size` (width, height)."""
    sides = [min(box[2] - box[0], size[0]), min(box[3] - box[1], size[1])]
    chance = random.Random(seed)
    x0, y0 = (chance.randint(0, whole - side) for whole, side in zip(size, sides, strict=True))
    return x0, y0, x0 + sides[0], y0 + sides[1]
