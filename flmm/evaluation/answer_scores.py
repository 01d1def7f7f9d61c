"""Scores of short answers that need no judge: exact match, ANLS, token F1, yes or no."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
COUNTED, OF_BOXES = ("items", "boxes", "unparsed"), ("box_iou", "box_acc50", "pointing")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Write an answer in lower case, without articles, punctuation and needless white space, as SQuAD compares them."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, truth: str) -> float:
    """Give 1 when both are the same once normalized; answers of punctuation alone are compared as they are."""
    if not normalized(truth):
        return float(answer.strip() == truth.strip())
    return float(normalized(answer) == normalized(truth))


def anls(answer: str, truth: str) -> float:
    """Compute the normalized Levenshtein similarity of letters in lower case; 0 below one half (DocVQA)."""
    one, other = (" ".join(text.lower().split()) for text in (answer, truth))
    longest = max(len(one), len(other))
    similarity = 1 - levenshtein(one, other) / longest if longest else 1.0
    return similarity if similarity >= 0.5 else 0.0


def levenshtein(one: str, other: str) -> int:
    """Count the fewest letters to insert, delete or replace."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def token_f1(answer: str, truth: str) -> float:
    """Compute F1 of the words that both have, once normalized."""
    found, expected = normalized(answer).split(), normalized(truth).split()
    if not found or not expected:
        return float(found == expected)
    common = sum((Counter(found) & Counter(expected)).values())
    return 2 * common / (len(found) + len(expected))


def yes_no(answer: str, truth: str) -> float | None:
    """Say whether an answer that begins with yes or no agrees with the truth; None when the truth is neither."""
    expected = normalized(truth)
    if expected not in ("yes", "no"):
        return None
    return float(normalized(answer).split(" ")[0] == expected)


SCORES = {"exact": exact_match, "anls": anls, "token_f1": token_f1, "yes_no": yes_no}


def mean_scores(answers: Sequence[str], truths: Sequence[str]) -> dict[str, float | None]:
    """Average each of SCORES in percent, over the answers that have it; None when none has."""
    means: dict[str, float | None] = {}
    for name, score in SCORES.items():
        values = [value for pair in zip(answers, truths, strict=True) if (value := score(*pair)) is not None]
        means[name] = 100 * sum(values) / len(values) if values else None
    return means


def means_of_subsets(subsets: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Average metrics over subsets, each of which counts alike, and over their items.

    Args:
        subsets: Metrics by subset; `items` and `boxes` say how many items they and those of boxes were taken of.

    Returns:
        'mean of subsets' and 'mean of items'; None for metrics that no subset has, and sums of what is counted.
    """
    alike: dict[str, Any] = {}
    weighted: dict[str, Any] = {}
    for name in dict.fromkeys(name for metrics in subsets.values() for name in metrics):
        having = [metrics for metrics in subsets.values() if metrics.get(name) is not None]
        weights = [metrics["boxes" if name in OF_BOXES else "items"] for metrics in having]
        if name in COUNTED:
            alike[name] = weighted[name] = sum(metrics[name] for metrics in having)
        else:
            total = sum(metrics[name] * weight for metrics, weight in zip(having, weights, strict=True))
            alike[name] = sum(metrics[name] for metrics in having) / len(having) if having else None
            weighted[name] = total / sum(weights) if having else None
    return {"mean of subsets": alike, "mean of items": weighted}
