"""The caption of a scene in reading order, cut into phrases."""

from __future__ import annotations

from dataclasses import dataclass

from flmm.datasets.shapes.scene import FIRST_SHAPE, PREPOSITIONS, SHAPES, Scene

PLURALS = {kind: f"{kind}{'es' if kind == 'cross' else 's'}" for kind in (*SHAPES, "shape")}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Segment:
    """A piece of a text; `regions` are the values of the region map it speaks of (none: plain words)."""

    utterance: str
    regions: tuple[int, ...] = ()
    plural: bool = False


def text_of(segments: list[Segment]) -> str:
    """Return the text that the segments make."""
    return " ".join(segment.utterance for segment in segments)


def caption(scene: Scene) -> list[Segment]:
    """Return the one caption of a scene, in reading order, cut into phrases and plain words."""
    places = [[Segment(PREPOSITIONS[name]), stuff_phrase(scene, band)] for band, name in enumerate(scene.stuff)]
    upper, lower = (join([group_phrase(scene, g) for g in scene.groups(band)]) for band in (0, 1))
    if not lower:
        parts = [*upper, *places[0], Segment("above"), places[1][1]]
    elif not upper:
        parts = [*lower, *places[1], Segment("under"), places[0][1]]
    else:
        parts = [*upper, *places[0], Segment("above"), *lower, *places[1]]
    return [*parts, Segment(".")]


def stuff_phrase(scene: Scene, band: int) -> Segment:
    """`the sky`."""
    return Segment(f"the {scene.stuff[band]}", (band,))


def group_phrase(scene: Scene, group: tuple[int, ...]) -> Segment:
    """`a large red circle`, `two small blue stars`: all that can be seen of equal neighbors."""
    kind, color, size = scene.shapes[group[0]].looks
    regions = tuple(FIRST_SHAPE + i for i in group)
    if len(group) == 1:
        return Segment(f"a {size} {color} {kind}", regions)
    return Segment(f"{NUMBERS[len(group)]} {size} {color} {PLURALS[kind]}", regions, plural=True)


def join(phrases: list[Segment]) -> list[Segment]:
    """`a , b and c`."""
    parts: list[Segment] = []
    for position, phrase in enumerate(phrases):
        if position:
            parts.append(Segment("and" if position == len(phrases) - 1 else ","))
        parts.append(phrase)
    return parts


def caption_phrases(scene: Scene) -> list[Segment]:
    """Return the phrases of the caption."""
    return [segment for segment in caption(scene) if segment.regions]
