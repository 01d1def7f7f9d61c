import pytest

from flmm.evaluation.keywords import Counts, span_counts, token_counts

TEXT = "a red ball on the green grass, trees"


def spans(*phrases):
    return [(TEXT.index(phrase), TEXT.index(phrase) + len(phrase)) for phrase in phrases]


def test_tokens():
    assert token_counts([1, 1, 0, 0], [1, 0, 1, 0]) == Counts(1, 2, 2)
    with pytest.raises(ValueError, match="longer|shorter"):
        token_counts([1], [1, 0])


@pytest.mark.parametrize(
    ("found", "truth", "exact", "half"),
    [
        (["a red ball", "the green grass"], ["red ball", " green grass"], Counts(2, 2, 2), Counts(2, 2, 2)),
        (["red ball", "grass"], ["a red ball", "the green grass"], Counts(1, 2, 2), Counts(1, 2, 2)),
        (["green grass, trees"], ["the green grass", "trees"], Counts(0, 1, 2), Counts(1, 1, 2)),
        (["a red", "ball"], ["a red ball"], Counts(0, 2, 1), Counts(1, 2, 1)),  # "ball" is half, and only one counts
        ([], ["trees"], Counts(0, 0, 1), Counts(0, 0, 1)),
        (["the"], ["the green grass"], Counts(0, 1, 1), Counts(0, 1, 1)),
    ],
)
def test_spans(found, truth, exact, half):
    assert span_counts(TEXT, spans(*found), spans(*truth)) == exact
    assert span_counts(TEXT, spans(*found), spans(*truth), min_iou=0.5) == half


def test_best_pairs_come_first():
    """The second of two overlapping phrases is the same as the truth; the first must not take its place."""
    assert span_counts("big red ball", [(0, 12), (4, 12)], [(4, 12)], min_iou=0.5) == Counts(1, 2, 1)
    assert span_counts("big red ball", [(4, 12), (0, 12)], [(0, 12), (4, 12)], min_iou=0.5) == Counts(2, 2, 2)


def test_percent():
    assert (Counts(1, 2, 4) + Counts(1, 0, 0)).compute() == {"precision": 100.0, "recall": 50.0, "f1": 200 / 3}
    assert Counts().compute() == {"precision": None, "recall": None, "f1": None}
