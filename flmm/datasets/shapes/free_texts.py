"""Free texts about scenes: their order says nothing about the layout, their words fit one thing only."""

from __future__ import annotations

import random
from collections.abc import Callable

from flmm.datasets.shapes.captions import Segment, caption_phrases, group_phrase, join, stuff_phrase
from flmm.datasets.shapes.expressions import expressions, plural_phrases, with_article
from flmm.datasets.shapes.scene import FIRST_SHAPE, PREPOSITIONS, Scene


def free_text(scene: Scene, rng: random.Random) -> list[Segment]:
    """Return a text about some of a scene, its phrases in any order and with any words that fit one thing only."""
    return rng.choice(_FREE)(scene, rng)


def shuffled(scene: Scene, rng: random.Random) -> list[Segment]:
    """All phrases of the caption in random order, as a list."""
    phrases = caption_phrases(scene)
    rng.shuffle(phrases)
    return [*join(phrases), Segment(".")]


def _some_phrases(scene: Scene, rng: random.Random) -> list[Segment]:
    """One to all of a scene's phrases, shuffled, in the caption's words or others."""
    groups = [group for band in (0, 1) for group in scene.groups(band)]
    phrases = [any_phrase(scene, group, rng) for group in groups]
    phrases += [stuff_phrase(scene, band) for band in (0, 1) if rng.random() < 0.5]
    rng.shuffle(phrases)
    return phrases[: rng.randint(1, len(phrases))]


def any_phrase(scene: Scene, group: tuple[int, ...], rng: random.Random) -> Segment:
    """Return a phrase of a group: the caption's, or for one shape any expression that fits it alone."""
    full = group_phrase(scene, group)
    choices = expressions(scene, group[0]) if len(group) == 1 and rng.random() < 0.5 else []
    if not choices:
        return full
    words = rng.choice(choices)
    return Segment(words if rng.random() < 0.5 else indefinite(words), full.regions)


def indefinite(words: str) -> str:
    """`the orange star` as `an orange star`; a side or a neighbor keeps its `the`."""
    rest = words.removeprefix("the ")
    if rest.split()[0] in ("left", "right", "middle"):
        return words
    return with_article(rest)


def _list(scene: Scene, rng: random.Random) -> list[Segment]:
    return [*join(_some_phrases(scene, rng)), Segment(".")]


def _single(scene: Scene, rng: random.Random) -> list[Segment]:
    """Return a phrase alone, with or without a full stop."""
    return [_some_phrases(scene, rng)[0], *([Segment(".")] if rng.random() < 0.5 else [])]


def _sentences(scene: Scene, rng: random.Random) -> list[Segment]:
    """Phrases each ended by a full stop."""
    return [part for phrase in _some_phrases(scene, rng) for part in (phrase, Segment("."))]


def _place(scene: Scene, rng: random.Random) -> list[Segment]:
    """Say what is where: `there is a star on the sand .`."""
    band = rng.choice([b for b in (0, 1) if scene.groups(b)])
    groups = scene.groups(band)
    chosen = rng.sample(groups, rng.randint(1, len(groups)))
    phrases = [group_phrase(scene, g) for g in chosen]
    start = rng.choice(["there are" if len(chosen) > 1 or phrases[0].plural else "there is", "i see", "", "", ""])
    end = [Segment("above" if band == 0 else "under"), stuff_phrase(scene, 1 - band)] if rng.random() < 0.3 else []
    place = [Segment(PREPOSITIONS[scene.stuff[band]]), stuff_phrase(scene, band)]
    return [*([Segment(start)] if start else []), *join(phrases), *place, *end, Segment(".")]


def _front(scene: Scene, rng: random.Random) -> list[Segment]:
    """Say the place first: `on the sand there is a star .`."""
    text = _place(scene, rng)
    where = next(i for i, s in enumerate(text) if s.regions and min(s.regions) < FIRST_SHAPE)
    what = [s for s in text[: where - 1] if s.utterance not in ("there is", "there are", "i see")]
    verb = "there are" if len(what) > 1 or what[0].plural else "there is"
    return [text[where - 1], text[where], Segment(verb), *what, Segment(".")]


def _predicate(scene: Scene, rng: random.Random) -> list[Segment]:
    """Say how a shape is: words after the phrase that need the shape to be found."""
    index = rng.randrange(len(scene.shapes))
    choices = expressions(scene, index)
    if not choices:
        return _place(scene, rng)
    shape, subject = scene.shapes[index], rng.choice(choices)
    place = scene.place(shape.band)
    said = [w for w in (shape.size, shape.color, place) if w.split()[-1] not in subject.split()]
    said = rng.sample(said, min(len(said), rng.randint(1, 2))) or [place]
    return [Segment(subject, (FIRST_SHAPE + index,)), Segment(f"is {' and '.join(said)}"), Segment(".")]


def _relation(scene: Scene, rng: random.Random) -> list[Segment]:
    """Say how two groups lie: `a red star is left of two blue circles .`."""
    groups = [(band, group) for band in (0, 1) for group in scene.groups(band)]
    if len(groups) < 2:
        return _list(scene, rng)
    (band, one), (other_band, other) = rng.sample(groups, 2)
    side = "left of" if one[0] < other[0] else "right of"
    words = side if band == other_band else "above" if band == 0 else "below"
    is_ = rng.choice(["is ", ""]) if len(one) == 1 else rng.choice(["are ", ""])
    return [any_phrase(scene, one, rng), Segment(is_ + words), any_phrase(scene, other, rng), Segment(".")]


def _many(scene: Scene, rng: random.Random) -> list[Segment]:
    """Name several at once: `all stars .`, `two red shapes and the sky .`."""
    choices = plural_phrases(scene)
    if not choices:
        return _single(scene, rng)
    phrases = [rng.choice(choices), *([_some_phrases(scene, rng)[0]] if rng.random() < 0.4 else [])]
    return [*join(phrases), Segment(".")] if rng.random() < 0.7 else phrases[:1]


_FREE: tuple[Callable[[Scene, random.Random], list[Segment]], ...] = (
    _list,
    _list,
    _single,
    _single,
    _sentences,
    _place,
    _front,
    _predicate,
    _predicate,
    _relation,
    shuffled,
    _many,
)
