"""Referring expressions: words that fit one shape of a scene, or all shapes of a sort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from flmm.datasets.shapes.captions import NUMBERS, PLURALS, Segment
from flmm.datasets.shapes.scene import FIRST_SHAPE, Scene, Shape

Sort = tuple[str, str, str]  # kind, color, size; "shape" or "" for any
_CLEAR = 0.06  # of the picture's width: sides closer than this are not named
SIDES = ("left", "right", "middle")
PLACES = ("alone", *SIDES, "other")


def words_of(sort: Sort, plural: bool = False) -> str:
    """`large red circle` of (circle, red, large)."""
    kind, color, size = sort
    return " ".join(word for word in (size, color, PLURALS[kind] if plural else kind) if word)


def with_article(words: str) -> str:
    """`an orange star`."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def sorts_of(shape: Shape) -> list[Sort]:
    """All ways to name a shape, the fewest words first; as "shape" last, without any attribute at the end."""
    kind, color, size = shape.looks
    named = [(kind, c, s) for c, s in (("", ""), (color, ""), ("", size), (color, size))]
    general = [("shape", color, ""), ("shape", "", size), ("shape", color, size), ("shape", "", "")]
    return named + general


def fits(shape: Shape, sort: Sort) -> bool:
    """Whether a shape is of a sort."""
    kind, color, size = sort
    return kind in ("shape", shape.kind) and color in ("", shape.color) and size in ("", shape.size)


def matching(scene: Scene, sort: Sort) -> list[int]:
    """Positions of the shapes of a sort."""
    return [i for i, shape in enumerate(scene.shapes) if fits(shape, sort)]


def expressions(scene: Scene, index: int, locations: bool = True) -> list[str]:
    """Referring expressions that fit shape `index` and no other shape of the scene, shortest first.

    Args:
        scene: The scene.
        index: Position in `scene.shapes`.
        locations: Also say where (left, in the sky, above a star); without, looks only, as in RefCOCO+.
    """
    return list(_expressions(scene, index, locations))


@lru_cache(maxsize=64)
def _expressions(scene: Scene, index: int, locations: bool) -> tuple[str, ...]:
    found: list[str] = []
    for sort in sorts_of(scene.shapes[index]):
        rivals = matching(scene, sort)
        if len(rivals) == 1 and any(sort[1:] + (sort[0] != "shape",)):
            found.append(f"the {words_of(sort)}")
        if locations:
            found += _located(scene, index, rivals, words_of(sort))
    return (*found, *(_related(scene, index) if locations else ()))


def _located(scene: Scene, index: int, rivals: list[int], words: str) -> Iterator[str]:
    """`words` made unique by a side or by the band."""
    target = scene.shapes[index]
    near = [i for i in rivals if scene.shapes[i].band == target.band]
    if len(near) == 1:
        yield f"the {words} {scene.place(target.band)}"
    if (place := place_among(scene, index, rivals)) in SIDES:
        yield f"the {place} {words}"


def place_among(scene: Scene, index: int, group: Sequence[int]) -> str:
    """Tell where shape `index` lies among the shapes `group`, of which it is one: one of `PLACES`."""
    target, others = scene.shapes[index], [scene.shapes[i] for i in group if i != index]
    clear = _CLEAR * scene.width
    if not others:
        return "alone"
    if target.x < min(other.x for other in others) - clear:
        return "left"
    if target.x > max(other.x for other in others) + clear:
        return "right"
    same_band = all(other.band == target.band for other in others)
    return "middle" if same_band and len(group) == 3 and index == group[1] else "other"


def _related(scene: Scene, index: int) -> Iterator[str]:
    """`the star left of the red circle`: made unique by a neighbor that looks like no other."""
    target, members = scene.shapes[index], scene.members(scene.shapes[index].band)
    place = members.index(index)
    for step, words in ((1, "left of"), (-1, "right of")):
        if not 0 <= place + step < len(members):
            continue
        neighbor = scene.shapes[members[place + step]]
        side = (
            [scene.shapes[i] for i in members[: place + 1]] if step == 1 else [scene.shapes[i] for i in members[place:]]
        )
        named = unique_sort(scene, members[place + step])
        if named is None or sum(s.kind == target.kind for s in side) > 1 or neighbor.kind == target.kind:
            continue
        yield f"the {target.kind} {words} the {words_of(named)}"


def unique_sort(scene: Scene, index: int) -> Sort | None:
    """The shortest sort with a kind that fits this shape alone."""
    return next((sort for sort in sorts_of(scene.shapes[index])[:4] if len(matching(scene, sort)) == 1), None)


def plural_phrases(scene: Scene) -> list[Segment]:
    """`two red stars`, `the stars`, `all shapes on the sand`: phrases that fit two shapes or more, exactly those."""
    return list(_plural_phrases(scene))


@lru_cache(maxsize=16)
def _plural_phrases(scene: Scene) -> tuple[Segment, ...]:
    sorts = dict.fromkeys(sort for shape in scene.shapes for sort in sorts_of(shape))
    found: list[Segment] = []
    for sort in sorts:
        members, words = matching(scene, sort), words_of(sort, plural=True)
        if len(members) > 1:
            found += [_many(f"{det} {words}", members) for det in (NUMBERS[len(members)], "the", "all")]
        for band in (0, 1):
            near = [i for i in members if scene.shapes[i].band == band]
            if len(near) > 1:
                found += [
                    _many(f"{det} {words} {scene.place(band)}", near) for det in (NUMBERS[len(near)], "the", "all")
                ]
    return tuple(found)


def _many(words: str, members: list[int]) -> Segment:
    return Segment(words, tuple(FIRST_SHAPE + i for i in members), plural=True)
