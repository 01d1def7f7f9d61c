import pytest

from flmm.evaluation.answer_scores import (
    anls,
    exact_match,
    levenshtein,
    mean_scores,
    means_of_subsets,
    token_f1,
    yes_no,
)


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "similarity", "f1"),
    [
        ("The Bus.", "bus", 1, 0, 1),  # 5 of 8 letters differ
        ("$8.50", "$8.50", 1, 1, 1),
        ("8.50", "$8.50", 1, 0.8, 1),
        ("red bus", "bus", 0, 0, 2 / 3),
        ("a red bus", "red  BUS", 1, 7 / 9, 1),
        ("", "bus", 0, 0, 0),
        ("-", "-", 1, 1, 1),
        ("+", "-", 0, 0, 1),
        ("kitten", "sitting", 0, 4 / 7, 0),
    ],
)
def test_scores(answer, truth, exact, similarity, f1):
    assert exact_match(answer, truth) == exact
    assert anls(answer, truth) == pytest.approx(similarity)
    assert token_f1(answer, truth) == pytest.approx(f1)


def test_levenshtein():
    assert levenshtein("kitten", "sitting") == 3
    assert levenshtein("", "abc") == levenshtein("abc", "") == 3
    assert levenshtein("abc", "acb") == 2


def test_yes_or_no():
    assert yes_no("Yes, it is.", "Yes") == 1
    assert yes_no("no", "Yes") == 0
    assert yes_no("Nothing", "no") == 0
    assert yes_no("yes", "bus") is None


def test_means_leave_out_what_has_no_such_score():
    means = mean_scores(["yes", "bus", "car"], ["no", "bus", "bus"])
    assert means["yes_no"] == 0
    assert means["exact"] == pytest.approx(100 / 3)
    assert mean_scores(["a b"], ["c d"])["yes_no"] is None


def test_subsets_count_alike_or_by_their_items():
    subsets = {
        "a": {"items": 1, "exact": 100.0, "yes_no": None, "box_iou": 10.0, "boxes": 3},
        "b": {"items": 3, "exact": 0.0, "yes_no": 50.0, "box_iou": 50.0, "boxes": 1},
    }
    means = means_of_subsets(subsets)
    assert means["mean of subsets"] == {"items": 4, "exact": 50, "yes_no": 50, "box_iou": 30, "boxes": 4}
    assert means["mean of items"] == {"items": 4, "exact": 25, "yes_no": 50, "box_iou": 20, "boxes": 4}
