"""Metrics of grounded captions on stripes of a 10 x 10 picture, whose IoUs are seen at a glance."""

import numpy as np
import pytest
from pycocotools import mask as coco

from flmm.evaluation.gcg import (
    Grounded,
    Recall,
    average_precision50,
    exact_similarity,
    image_miou,
    image_recall,
    image_recall_fixed,
)


def stripe(first, last, size=(10, 10)):
    """RLE of the columns `first` to `last`, which is not included."""
    mask = np.zeros(size, dtype=np.uint8, order="F")
    mask[:, first:last] = 1
    rle = coco.encode(mask)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


def recalls(predicted, annotated):
    return [recall(predicted, annotated, exact_similarity).found for recall in (image_recall, image_recall_fixed)]


def test_mIoU_takes_the_best_pairs_first_and_forgives_the_rest():
    # 0-5 fits 0-4 with 0.8; 0-4 would fit it with 1.0 and takes it
    assert image_miou([stripe(0, 5), stripe(0, 4)], [stripe(0, 4)]) == 1
    assert image_miou([stripe(0, 5)], [stripe(0, 4), stripe(6, 9)]) == pytest.approx(0.8)
    assert image_miou([stripe(0, 5), stripe(6, 10)], [stripe(0, 4), stripe(8, 10)]) == pytest.approx((0.8 + 0.5) / 2)


def test_mIoU_without_a_pair_is_zero():
    assert image_miou([], [stripe(0, 4)]) == image_miou([stripe(0, 2)], [stripe(5, 9)]) == 0
    assert image_miou([stripe(0, 0)], [stripe(0, 0)]) == 0
    assert image_miou([stripe(0, 0), stripe(0, 4)], [stripe(0, 0), stripe(0, 4)]) == 1


def test_recall_as_published_ends_at_the_first_pair_that_fails():
    annotated = Grounded(["a cat", "a dog"], [stripe(0, 5), stripe(5, 10)])
    right = Grounded(["A CAT", "a dog"], [stripe(0, 5), stripe(5, 9)])
    assert recalls(right, annotated) == [2, 2]
    # the best pair has other words: the dog is thrown away with it, unless the pair is skipped
    wrong = Grounded(["a hat", "a dog"], [stripe(0, 5), stripe(5, 9)])
    assert recalls(wrong, annotated) == [0, 1]
    # the pair with other words comes last: both agree
    assert recalls(Grounded(["a cat", "a fog"], [stripe(0, 5), stripe(5, 9)]), annotated) == [1, 1]


def test_a_skipped_pair_leaves_its_masks_to_others():
    annotated = Grounded(["a cat"], [stripe(0, 5)])
    predicted = Grounded(["a hat", "a cat"], [stripe(0, 5), stripe(0, 4)])
    assert recalls(predicted, annotated) == [0, 1]


def test_a_pair_counts_from_an_IoU_of_one_half():
    assert recalls(Grounded(["x"], [stripe(0, 5)]), Grounded(["x"], [stripe(0, 10)])) == [1, 1]
    assert recalls(Grounded(["x"], [stripe(0, 4)]), Grounded(["x"], [stripe(0, 10)])) == [0, 0]


def test_a_mask_without_a_phrase():
    annotated = Grounded(["a cat", "a dog"], [stripe(0, 5), stripe(5, 10)])
    assert recalls(Grounded(["a cat"], [stripe(0, 5), stripe(5, 10)]), annotated) == [0, 1]
    assert recalls(Grounded(["a cat", "a dog"], [stripe(0, 5)]), annotated) == [1, 1]
    assert recalls(Grounded([], []), annotated) == [0, 0]


def test_recall_is_of_all_labels():
    assert (Recall(1, 2) + Recall(0, 2)).percent == 25
    assert Recall(0, 0).percent == 0


def test_AP50():
    cats = {"a": [stripe(0, 5)], "b": [stripe(0, 5)]}
    assert average_precision50(cats, cats) == pytest.approx(100)
    assert average_precision50({}, cats) == 0
    assert average_precision50(cats, {"a": [], "b": []}) is None
    # one of two found: recall 0.5 at precision 1, at 51 of 101 points
    assert average_precision50({"a": [stripe(0, 4)]}, cats) == pytest.approx(100 * 51 / 101)
    # a wrong one said first halves the precision up to there
    first = {"a": [stripe(5, 10), stripe(0, 5)], "b": [stripe(0, 5)]}
    assert average_precision50(first, cats) == pytest.approx(100 * 2 / 3, abs=1e-6)
    assert average_precision50({**cats, "not annotated": [stripe(0, 1)]}, cats) == pytest.approx(100)


def test_AP50_takes_pictures_in_the_order_of_their_ids():
    # all scores are 1: a wrong mask in the first picture costs precision everywhere, one in the last hardly any
    annotated = {"b": [stripe(0, 5)], "a": [stripe(0, 5)], 3: [stripe(0, 5)]}
    wrong = {name: [stripe(6, 9)] if name == 3 else masks for name, masks in annotated.items()}
    assert average_precision50(wrong, annotated) == pytest.approx(100 * 2 / 3 * 67 / 101)
    wrong = {name: [stripe(6, 9)] if name == "b" else masks for name, masks in annotated.items()}
    assert average_precision50(wrong, annotated) == pytest.approx(100 * 67 / 101)


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"sizes \[\(10, 10\), \(10, 11\)\]"):
        image_miou([stripe(0, 5, (10, 11))], [stripe(0, 5)])
