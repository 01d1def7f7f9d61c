"""Implicit queries, as ReasonSeg asks them: they describe a thing without its name."""

from __future__ import annotations

import random
from dataclasses import dataclass

from flmm.datasets.shapes.captions import group_phrase
from flmm.datasets.shapes.scene import Scene

# What is asked for: phrases (short queries), and sentences (long queries).
_SHORT = {
    "sky": ("the place where birds fly", "what clouds move across", "what planes fly in"),
    "wall": ("what is built of bricks", "what a mason builds", "what holds up a roof"),
    "sea": ("what a ship sails on", "the place where fish swim", "what is full of salt water"),
    "grass": ("what cows eat", "what a gardener mows", "what grows on a meadow"),
    "sand": ("what children build castles of", "what a desert is made of", "what covers a beach"),
    "snow": ("what melts in spring", "what one skis on", "what falls in winter"),
    "road": ("what cars drive on", "the way that traffic takes", "what is made of asphalt"),
    "circle": ("the shape without corners", "the round shape", "the shape that could roll"),
    "square": ("the shape with four equal sides", "the shape with four corners", "the shape like a box"),
    "triangle": ("the shape with three corners", "the shape with three sides", "the shape like a pyramid"),
    "star": ("the shape with five points", "the shape that shines at night", "the shape like a starfish"),
    "cross": ("the shape like a plus sign", "the shape with four arms", "the sign for adding numbers"),
    "red": ("the shape in the color of blood", "the shape in the color of a tomato"),
    "orange": ("the shape in the color of a carrot", "the shape in the color of a pumpkin"),
    "yellow": ("the shape in the color of a lemon", "the shape in the color of a banana"),
    "green": ("the shape in the color of a leaf", "the shape in the color of a frog"),
    "blue": ("the shape in the color of the ocean", "the shape in the color of jeans"),
    "purple": ("the shape in the color of a plum", "the shape in the color of lavender"),
    "black": ("the shape in the color of coal", "the shape in the color of a raven"),
}
_LONG = {
    "sky": ("Which part of the image would an airplane cross?", "If it rains, where does the water come from?"),
    "wall": ("Which part of the image would a painter paint?", "What would stop you if you walked straight on?"),
    "sea": ("Which part of the image would you need a boat for?", "If you want to catch a fish, where do you look?"),
    "grass": ("Where in the image would a sheep find food?", "Which part of the image has to be mowed in summer?"),
    "sand": (
        "Which part of the image would you dig in with a bucket?",
        "Where in the image would a camel feel at home?",
    ),
    "snow": ("Which part of the image would turn into water when it gets warm?", "What would you throw in winter?"),
    "road": ("Which part of the image should a child never play on?", "Where in the image would a truck drive?"),
    "circle": ("Which shape would roll down a hill?", "Which shape has the same distance to its middle everywhere?"),
    "square": ("Which shape has four corners, all of them right angles?", "Which shape could be the side of a cube?"),
    "triangle": ("Which shape has the fewest corners?", "Which shape would you draw for the roof of a house?"),
    "star": ("Which shape would you put on top of a Christmas tree?", "Which shape do you wish upon at night?"),
    "cross": ("Which shape would you use to add two numbers?", "Which shape marks a hospital or a pharmacy?"),
    "red": ("Which shape has the color that makes cars stop?", "Which shape has the color of a fire truck?"),
    "orange": ("Which shape has the color of a fruit with the same name?", "Which shape has the color of a tiger?"),
    "yellow": ("Which shape has the color of the sun?", "Which shape has the color of a ripe banana?"),
    "green": ("Which shape has the color that lets cars go?", "Which shape has the color of a forest?"),
    "blue": ("Which shape has the color of deep water?", "Which shape has the color of a clear day?"),
    "purple": ("Which shape has the color you get from red and blue?", "Which shape has the color of ripe grapes?"),
    "black": ("Which shape has the color of the night?", "Which shape has the color of a crow?"),
}
QUERIES = tuple(text for table in (_SHORT, _LONG) for texts in table.values() for text in texts)


@dataclass(frozen=True)
class Query:
    """An implicit query: its text, whether it is a sentence, the phrase that answers it, and the regions."""

    text: str
    is_sentence: bool
    phrase: str
    regions: tuple[int, ...]


def queries(scene: Scene) -> list[tuple[str, str, tuple[int, ...]]]:
    """(concept, phrase of the answer, regions) of everything in a scene that an implicit query can single out."""
    found: list[tuple[str, str, tuple[int, ...]]] = [(n, f"the {n}", (band,)) for band, n in enumerate(scene.stuff)]
    for index, shape in enumerate(scene.shapes):
        phrase = group_phrase(scene, (index,))
        for concept, same in (
            (shape.kind, [s for s in scene.shapes if s.kind == shape.kind]),
            (shape.color, [s for s in scene.shapes if s.color == shape.color]),
        ):
            if len(same) == 1:
                found.append((concept, f"the {phrase.utterance.removeprefix('a ')}", phrase.regions))
    return found


def sample_query(scene: Scene, rng: random.Random, is_sentence: bool | None = None) -> Query:
    """Return a random implicit query, short or long."""
    concept, phrase, regions = rng.choice(queries(scene))
    long = rng.random() < 0.5 if is_sentence is None else is_sentence
    return Query(rng.choice((_LONG if long else _SHORT)[concept]), long, phrase, regions)


def wordings(query: Query) -> list[str]:
    """Return the query, then its other wordings."""
    table = _LONG if query.is_sentence else _SHORT
    texts = next(texts for texts in table.values() if query.text in texts)
    return [query.text, *(text for text in texts if text != query.text)]
