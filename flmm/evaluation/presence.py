"""How well a score tells what is in a picture from what is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def area_under_curve(present: Sequence[float], absent: Sequence[float]) -> float:
    """Return the share of pairs in which what is present has the higher score, 0..1; equal scores count half.

    Args:
        present: Scores of what is in its picture.
        absent: Scores of what is not.

    Raises:
        ValueError: One of them is empty.
    """
    if not len(present) or not len(absent):
        raise ValueError(f"{len(present)} present and {len(absent)} absent scores: give at least one of each")
    ones, others = np.asarray(present)[:, None], np.asarray(absent)[None]
    return float((ones > others).mean() + (ones == others).mean() / 2)
