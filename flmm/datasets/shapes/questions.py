"""Questions about scenes with one short right answer each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from flmm.datasets.shapes.captions import NUMBERS, group_phrase
from flmm.datasets.shapes.expressions import expressions, fits, matching, sorts_of, with_article, words_of
from flmm.datasets.shapes.scene import COLORS, FIRST_SHAPE, LOWER, SHAPES, SIZES, UPPER, Scene


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        kind: One of `QUESTION_KINDS`.
        text: The question.
        answer: A word or phrase.
        regions: Values of the region map that one has to look at (none: everything).
        subject: Words of the question for these regions (empty: none).
    """

    kind: str
    text: str
    answer: str
    regions: tuple[int, ...] = ()
    subject: str = ""


def sample_question(scene: Scene, rng: random.Random, kind: str | None = None) -> Question | None:
    """Return a random question, of a random kind when none is given; None where the scene allows none of that kind."""
    return _ASK[kind or rng.choice(QUESTION_KINDS)](scene, rng)


def sign_question(scene: Scene, index: int, rng: random.Random) -> Question | None:
    """What is written on a shape; None when no words fit it alone, or it bears no sign."""
    choices = expressions(scene, index)
    if not choices or not scene.shapes[index].sign:
        return None
    subject = rng.choice(choices)
    forms = ("What is written on {}?", "Which sign is on {}?", "Which digit or letter is on {}?", "What does {} say?")
    text = rng.choice(forms).format(subject)
    return Question("sign", text, scene.shapes[index].sign, (FIRST_SHAPE + index,), subject)


def attribute_question(scene: Scene, index: int, rng: random.Random, subject: str, kind: str) -> Question | None:
    """Return the color, kind, size or place of a shape that `subject` names; None when the subject says it already."""
    shape = scene.shapes[index]
    answers = {
        "color": shape.color,
        "kind": shape.kind,
        "size": shape.size,
        "where": scene.place(shape.band),
    }
    answer, words = answers[kind], subject.split()
    if answer.split()[-1] in words:
        return None
    text = rng.choice(_ATTRIBUTE_FORMS[kind]).format(subject)
    return Question(kind, text, answer, (FIRST_SHAPE + index,), subject)


_ATTRIBUTE_FORMS = {
    "color": ("What color is {}?", "What is the color of {}?", "Which color does {} have?"),
    "kind": ("What shape is {}?", "What kind of shape is {}?", "What is {}?"),
    "size": ("How large is {}?", "What size is {}?", "Is {} large or small?"),
    "where": ("Where is {}?", "Where do you see {}?"),
}


def _attribute(kind: str) -> Callable[[Scene, random.Random], Question | None]:
    def ask(scene: Scene, rng: random.Random) -> Question | None:
        index = rng.randrange(len(scene.shapes))
        choices = expressions(scene, index)
        rng.shuffle(choices)
        asked = (attribute_question(scene, index, rng, subject, kind) for subject in choices)
        return next((question for question in asked if question), None)

    return ask


def _count(scene: Scene, rng: random.Random) -> Question:
    """Ask for a number, in the whole picture or a band."""
    sort = rng.choice(sorts_of(rng.choice(scene.shapes)))
    if rng.random() < 0.15:
        sort = (rng.choice(SHAPES), rng.choice(["", *COLORS]), "")
    found, words = matching(scene, sort), words_of(sort, plural=True)
    if rng.random() < 0.5:
        regions = tuple(FIRST_SHAPE + i for i in found)
        return Question("count", f"How many {words} are there?", NUMBERS[len(found)], regions, words)
    band = rng.randrange(2)
    place = scene.place(band)
    near = [i for i in found if scene.shapes[i].band == band]
    regions = tuple(FIRST_SHAPE + i for i in near)
    return Question("count", f"How many {words} are {place}?", NUMBERS[len(near)], regions, f"{words} {place}")


def _exists(scene: Scene, rng: random.Random) -> Question:
    """Ask whether a thing is there; what is not often differs by one word from what is."""
    if rng.random() < 0.15:
        name = rng.choice([*UPPER, *LOWER])
        there = name in scene.stuff
        band = (scene.stuff.index(name),) if there else ()
        return Question("exists", f"Do you see the {name}?", "yes" if there else "no", band, f"the {name}")
    there = rng.random() < 0.5
    sort = present_sort(scene, rng) if there else absent_sort(scene, rng)
    words = with_article(words_of(sort))
    form = rng.choice(("Is there {}?", "Do you see {}?", "Is {} in the image?"))
    regions = tuple(FIRST_SHAPE + i for i in matching(scene, sort))
    return Question("exists", form.format(words), "yes" if there else "no", regions, words)


def present_sort(scene: Scene, rng: random.Random) -> tuple[str, str, str]:
    """Return a sort of shapes that the scene holds, with a kind and color or more."""
    kind, color, size = rng.choice(scene.shapes).looks
    return rng.choice([(kind, "", ""), (kind, color, ""), (kind, color, ""), (kind, color, size), ("shape", color, "")])


def absent_sort(scene: Scene, rng: random.Random) -> tuple[str, str, str]:
    """Return a sort of shapes that the scene does not hold, one word away from what is there or any."""
    while True:
        kind, color, size = present_sort(scene, rng)
        change = rng.randrange(3)
        if change == 0 or kind == "shape":
            color = rng.choice([*COLORS])
        elif change == 1:
            kind = rng.choice(SHAPES)
        else:
            kind, color, size = rng.choice(SHAPES), rng.choice(["", *COLORS]), rng.choice(["", *SIZES])
        if not any(fits(shape, (kind, color, size)) for shape in scene.shapes):
            return kind, color, size


def _beside(scene: Scene, rng: random.Random) -> Question | None:
    """Ask for the next shape of the band."""
    index = rng.randrange(len(scene.shapes))
    members = scene.members(scene.shapes[index].band)
    side, step = rng.choice((("left", -1), ("right", 1)))
    place = members.index(index) + step
    choices = [words for words in expressions(scene, index) if words.split()[1] not in ("left", "right", "middle")]
    if not choices or not 0 <= place < len(members):
        return None
    neighbor = (members[place],)
    answer = group_phrase(scene, neighbor).utterance
    form = rng.choice(("What is {} of {}?", "Which shape is {} of {}?"))
    subject = rng.choice(choices)
    return Question("beside", form.format(side, subject), answer, (FIRST_SHAPE + neighbor[0],), subject)


def _order(scene: Scene, rng: random.Random) -> Question | None:
    """Ask whether one shape lies beside, above or below another."""
    if len(scene.shapes) < 2:
        return None
    one, other = rng.sample(range(len(scene.shapes)), 2)
    subjects = [[w for w in expressions(scene, i) if len(w.split()) < 5] for i in (one, other)]
    if not all(subjects):
        return None
    same = scene.shapes[one].band == scene.shapes[other].band
    relation = rng.choice(("left of", "right of") if same else ("above", "below"))
    true = (one < other) == (relation in ("left of", "above"))
    first, second = (rng.choice(choices) for choices in subjects)
    regions = (FIRST_SHAPE + one, FIRST_SHAPE + other)
    return Question("order", f"Is {first} {relation} {second}?", "yes" if true else "no", regions, first)


def _stuff(scene: Scene, rng: random.Random) -> Question:
    """Ask for a band."""
    band = rng.randrange(2)
    other = f"the {scene.stuff[1 - band]}"
    forms = ("What is above {}?", "What is the top part of the image?", "What is at the top of the image?")
    if band:
        forms = ("What is below {}?", "What is the lower part of the image?", "What is the ground?")
    return Question("stuff", rng.choice(forms).format(other), f"the {scene.stuff[band]}", (band,))


def _sign(scene: Scene, rng: random.Random) -> Question | None:
    return sign_question(scene, rng.randrange(len(scene.shapes)), rng)


_ASK: dict[str, Callable[[Scene, random.Random], Question | None]] = {
    **{kind: _attribute(kind) for kind in _ATTRIBUTE_FORMS},
    "count": _count,
    "exists": _exists,
    "beside": _beside,
    "order": _order,
    "stuff": _stuff,
    "sign": _sign,
}
QUESTION_KINDS = tuple(kind for kind in _ASK if kind != "sign")
