"""Places in a text for phrases that must not overlap."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Span = tuple[int, int]
Places = Mapping[int, Sequence[Span]]
SEARCH_SECONDS = 10


def overlap(one: Span, other: Span) -> bool:
    """Tell whether two spans share a character."""
    return one[0] < other[1] and other[0] < one[1]


def in_order(places: Places, order: Iterable[int], fixed: Mapping[int, Span]) -> dict[int, Span] | None:
    """Give each phrase in turn its first free place; None when one finds none.

    Args:
        places: Where each phrase could stand, by its index.
        order: The indices, who chooses first in front.
        fixed: Places of other phrases that are taken already.
    """
    found = dict(fixed)
    for index in order:
        free = (span for span in places[index] if not any(overlap(span, other) for other in found.values()))
        if (span := next(free, None)) is None:
            return None
        found[index] = span
    return found


def together(places: Places, fixed: Mapping[int, Span]) -> dict[int, Span] | None:
    """Give all phrases places that do not overlap, if there are any; exact, by integer programming."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    taken = fixed.values()
    choices = [(i, s) for i, spans in places.items() for s in spans if not any(overlap(s, other) for other in taken)]
    index, starts, ends = (np.array(column) for column in zip(*((i, *span) for i, span in choices), strict=True))
    # one place for each phrase, at most one phrase where any place begins
    phrase = index == np.array(list(places))[:, None]
    begins = np.unique(starts)[:, None]
    rows = csr_array(np.concatenate([phrase, (starts <= begins) & (begins < ends)]).astype(float))
    fewest = np.concatenate([np.ones(len(phrase)), np.zeros(len(begins))])
    result = milp(
        starts,  # leftmost
        integrality=np.ones(len(choices)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, fewest, 1),
        options={"time_limit": SEARCH_SECONDS},
    )
    if result.x is None:
        return None
    chosen = [choice for choice, share in zip(choices, result.x, strict=True) if share > 0.5]
    return {**fixed, **_successive(chosen, places)}


def _successive(chosen: Sequence[tuple[int, Span]], places: Places) -> dict[int, Span]:
    """Let equal phrases take their places in the order of the text."""
    found: dict[int, Span] = {}
    for spans in {tuple(options) for options in places.values()}:
        alike = [choice for choice in chosen if tuple(places[choice[0]]) == spans]
        found.update(zip(sorted(i for i, _ in alike), sorted(span for _, span in alike), strict=True))
    return found
