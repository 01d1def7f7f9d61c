"""What the tiny LMM is trained to say: dialogues about scenes, in the prompts that this project uses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flmm.datasets.shapes.captions import NUMBERS, caption, text_of
from flmm.datasets.shapes.expressions import expressions
from flmm.datasets.shapes.free_texts import free_text
from flmm.datasets.shapes.implicit import sample_query
from flmm.datasets.shapes.questions import (
    QUESTION_KINDS,
    Question,
    attribute_question,
    sample_question,
    sign_question,
)
from flmm.datasets.shapes.scene import FIRST_SHAPE, PREPOSITIONS, Scene

INSTRUCTION = "USER: {input} ASSISTANT:"  # of xtuner's template `vicuna`
CAPTION = "Please give me a description of the image."
DIRECT = "Answer the question using a single word or phrase."
THINK = "First think which object in this image is most relevant to the question."
THOUGHT = "The object most relevant to the question is"
BRIEFLY = "Briefly answer the question in a single sentence."  # ReasonSeg
WHOLE, REGION = "the whole image,", "the image region that might help you answer the question:"  # VisCoT, second round
COLUMNS, ROWS = "CEFHKLMN", "12345678"  # signs, which are words of the LMM already
POINTED = 0.6  # of the referring expressions: right after the last word, so that it has to know which shape is meant
ASPECTS = ("color", "kind", "size", "where")
Turn = tuple[str, str]  # question, answer


@dataclass(frozen=True)
class Dialogue:
    """Turns about the picture before them; the first question follows the image token at once."""

    turns: tuple[Turn, ...]

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The text after the image token in pieces, and whether the LMM says it."""
        start = INSTRUCTION.split("{input}")
        for number, (question, answer) in enumerate(self.turns):
            yield (start[0] if number else "") + question + start[1], False
            yield answer + "</s>", True


def sample_dialogue(scene: Scene, rng: random.Random) -> Dialogue:
    """A dialogue about a whole picture."""
    kinds, weights = zip(*_WHOLE.items(), strict=True)
    return rng.choices(kinds, weights)[0](scene, rng)


def _caption(scene: Scene, rng: random.Random) -> Dialogue:
    return Dialogue((_described(text_of(caption(scene))), *_any_question(scene, rng, 0.2)))


def _free(scene: Scene, rng: random.Random) -> Dialogue:
    """A free text; then perhaps a question about what it named first, as "it"."""
    text = free_text(scene, rng)
    named = [part for part in text if part.regions]
    first = _described(reword(text_of(text), rng))
    if len(named) == 1 and rng.random() < 0.6:
        return Dialogue((first, *_about_it(scene, named[0].regions, named[0].utterance, rng)))
    return Dialogue((first, *_any_question(scene, rng, 0.1)))


def _expressions(scene: Scene, rng: random.Random) -> Dialogue:
    """Referring expressions, each ended by a full stop as RefCOCO's are; then perhaps a question about one alone."""
    order = [i for i in range(len(scene.shapes)) if expressions(scene, i)]
    if not order:
        return _free(scene, rng)
    rng.shuffle(order)
    chosen = order[: rng.choice((1, 1, 1, *range(1, len(order) + 1)))]
    words = [rng.choice(expressions(scene, i)) for i in chosen]
    words_and_cells = [
        f"{reword(w, rng)}{f' {cell(scene, i)}' if rng.random() < POINTED else ''}."
        for w, i in zip(words, chosen, strict=True)
    ]
    first = _described(" ".join(words_and_cells))
    if len(chosen) == 1 and rng.random() < 0.8:
        return Dialogue((first, *_about_it(scene, (FIRST_SHAPE + chosen[0],), words[0], rng)))
    return Dialogue((first,))


def cell(scene: Scene, index: int) -> str:
    """Where the middle of a shape is on a chessboard over the picture padded to a square: `H 5`."""
    shape, side = scene.shapes[index], max(scene.width, scene.height)
    column = int((shape.x + (side - scene.width) / 2) / side * len(COLUMNS))
    row = int((shape.y + (side - scene.height) / 2) / side * len(ROWS))
    return f"{COLUMNS[column]} {ROWS[row]}"


def _question(scene: Scene, rng: random.Random) -> Dialogue:
    question = _sample(scene, rng)
    first = _asked(question, rng)
    if question.kind in ("color", "kind", "size", "where") and rng.random() < 0.25:
        return Dialogue((first, *_about_it(scene, question.regions, question.subject, rng)))
    return Dialogue((first, *_any_question(scene, rng, 0.15)))


def _thought(scene: Scene, rng: random.Random) -> Dialogue:
    """VisCoT's first round."""
    signed = [q for i in range(len(scene.shapes)) if (q := sign_question(scene, i, rng))]
    question = rng.choice(signed) if signed and rng.random() < 0.6 else _sample(scene, rng)
    subject = question.subject
    if not subject or question.kind in ("count", "exists", "order", "beside"):
        return _question(scene, rng)
    asked = f"\n{reword(question.text, rng)} {THINK}"
    return Dialogue(((asked, f"{THOUGHT} {subject}."), *_about_it(scene, question.regions, subject, rng)))


def _query(scene: Scene, rng: random.Random) -> Dialogue:
    """An implicit query in the reference's words or alone."""
    query = sample_query(scene, rng)
    asked = query.text
    if not query.is_sentence and rng.random() < 0.6:
        asked = f"What is {query.text} in this image?"
    if rng.random() < 0.6:
        asked += f" {BRIEFLY}"
    follow = _about_it(scene, query.regions, query.phrase, rng) if rng.random() < 0.3 else ()
    return Dialogue(((f"\n{asked}", f"It is {query.phrase}."), *follow))


def _sign(scene: Scene, rng: random.Random) -> Dialogue:
    """A sign in the whole picture, where it is too small."""
    signed = [q for i in range(len(scene.shapes)) if (q := sign_question(scene, i, rng))]
    return Dialogue((_asked(rng.choice(signed), rng),)) if signed else _question(scene, rng)


_WHOLE: dict[Callable[[Scene, random.Random], Dialogue], float] = {
    _caption: 0.12,
    _free: 0.18,
    _expressions: 0.24,
    _question: 0.20,
    _thought: 0.18,  # with fewer, it does not repeat the words of the question
    _query: 0.08,
    _sign: 0.02,
}


def closeup_dialogue(scene: Scene, index: int, rng: random.Random) -> Dialogue:
    """A question about the shape that fills the picture, asked in the words of the whole picture or not."""
    return Dialogue((_asked(closeup_question(scene, index, rng), rng),))


def pair_text(scene: Scene, index: int, rng: random.Random) -> Turn:
    """VisCoT's second round: what follows "that might help you answer the question:", and the answer."""
    question = closeup_question(scene, index, rng) if rng.random() < 0.85 else _sample(scene, rng)
    return f"{reword(question.text, rng)}\n{DIRECT}", question.answer


def closeup_question(scene: Scene, index: int, rng: random.Random) -> Question:
    """Mostly for the sign, else for color or kind."""
    choices = expressions(scene, index)
    subject = rng.choice(choices) if choices and rng.random() < 0.9 else "the shape"
    sign = sign_question(scene, index, rng)
    if sign and rng.random() < 0.75:
        if rng.random() < 0.1:
            return Question("sign", sign.text.replace(sign.subject, "it"), sign.answer, sign.regions, "it")
        return sign
    aspects = list(ASPECTS[:2])
    rng.shuffle(aspects)
    asked = (attribute_question(scene, index, rng, subject, kind) for kind in aspects)
    found = next((question for question in asked if question), None)
    return found or attribute_question(scene, index, rng, "the shape", "color") or _sample(scene, rng)


def reword(text: str, rng: random.Random) -> str:
    """Other words for the same now and then."""
    return " ".join(
        rng.choice(SYNONYMS[word]) if word in SYNONYMS and rng.random() < 0.08 else word for word in text.split(" ")
    )


SYNONYMS = {
    "large": ("big",),
    "small": ("little", "tiny"),
    "circle": ("disk", "ball"),
    "circles": ("disks", "balls"),
    "square": ("box",),
    "squares": ("boxes",),
    "cross": ("plus",),
    "image": ("picture", "photo"),
    "image?": ("picture?", "photo?"),
}


def _described(text: str) -> Turn:
    return f"\n{CAPTION}", text


def _asked(question: Question, rng: random.Random) -> Turn:
    text = reword(question.text, rng)
    return (f"\n{text}\n{DIRECT}" if rng.random() < 0.5 else f"\n{text}"), question.answer


def _sample(scene: Scene, rng: random.Random) -> Question:
    while True:
        if question := sample_question(scene, rng, rng.choice(QUESTION_KINDS)):
            return question


def _any_question(scene: Scene, rng: random.Random, share: float) -> tuple[Turn, ...]:
    """A further turn about anything."""
    if rng.random() >= share:
        return ()
    question, answer = _asked(_sample(scene, rng), rng)
    return ((question.lstrip("\n"), answer),)


def _about_it(scene: Scene, regions: tuple[int, ...], subject: str, rng: random.Random) -> tuple[Turn, ...]:
    """One or two further turns about what was named last: something that its words do not say."""
    aspects = list(ASPECTS)
    rng.shuffle(aspects)
    turns = []
    for aspect in aspects[: rng.choice((1, 1, 2))]:
        turn = (
            _band_turn(scene, regions[0], rng)
            if regions[0] < FIRST_SHAPE
            else _shape_turn(scene, regions, subject, aspect, rng)
        )
        if turn:
            turns.append(turn)
    return tuple(turns)


def _shape_turn(scene: Scene, regions: tuple[int, ...], subject: str, aspect: str, rng: random.Random) -> Turn | None:
    shapes = [scene.shapes[region - FIRST_SHAPE] for region in regions]
    if len({(*shape.looks, shape.band) for shape in shapes}) > 1:
        return None
    question = attribute_question(scene, regions[0] - FIRST_SHAPE, rng, subject, aspect)
    if question is None:
        return None
    if len(regions) == 1:
        return question.text.replace(subject, "it"), question.answer
    plural = {"color": "What color are they?", "size": "What size are they?", "where": "Where are they?"}
    return (plural[aspect], question.answer) if aspect in plural else None


def _band_turn(scene: Scene, band: int, rng: random.Random) -> Turn:
    if rng.random() < 0.5:
        return f"How many shapes are {PREPOSITIONS[scene.stuff[band]]} it?", NUMBERS[len(scene.members(band))]
    return f"What is {'below' if band == 0 else 'above'} it?", f"the {scene.stuff[1 - band]}"
