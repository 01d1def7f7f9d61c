"""gIoU and cIoU of masks whose numbers are known."""

import numpy as np
import pytest
import torch

from flmm.evaluation import ReasonSegMetric, reason_seg_metrics


def mask(*rows, kind=bool):
    return np.array([[int(value) for value in row.split()] for row in rows], dtype=kind)


def truth(*rows):
    return mask(*rows, kind=np.uint8)


def test_ignored_pixels_count_neither_for_nor_against():
    prediction = mask("1 1 0 0", "1 1 1 1")  # its second row is ignored
    target = truth("0 1 1 0", "255 255 255 255")
    found = reason_seg_metrics([prediction], [target])
    assert found["gIoU"] == pytest.approx(100 / 3, abs=1e-3)
    assert found["cIoU"] == pytest.approx(100 / 3)


def test_gIoU_is_the_mean_of_pictures_and_cIoU_of_pixels():
    predictions = [mask("1 1 1 1"), mask("1 0 0 0")]
    truths = [truth("1 1 1 1"), truth("0 0 1 1")]
    found = reason_seg_metrics(predictions, truths)
    assert found["gIoU"] == pytest.approx(50, abs=1e-3)
    assert found["cIoU"] == pytest.approx(100 * 4 / 7)
    assert found["gIoU"] == pytest.approx(100 * (4 / (4 + 1e-5)) / 2, abs=1e-9)  # LISA's small term


@pytest.mark.parametrize("target", ["0 0", "255 255", "0 255"])
def test_nothing_to_find_and_nothing_found_is_right(target):
    assert reason_seg_metrics([mask("0 0")], [truth(target)]) == {"gIoU": 100, "cIoU": 0}


def test_something_found_where_nothing_is():
    assert reason_seg_metrics([mask("1 0")], [truth("0 0")]) == {"gIoU": 0, "cIoU": 0}


def test_a_prediction_that_lies_on_ignored_pixels_only():
    assert reason_seg_metrics([mask("0 1")], [truth("0 255")])["gIoU"] == 100
    assert reason_seg_metrics([mask("0 1")], [truth("1 255")])["gIoU"] == 0


def test_tensors_and_no_picture():
    assert reason_seg_metrics([], []) == {"gIoU": None, "cIoU": None}
    found = reason_seg_metrics([torch.ones(2, 2, dtype=torch.bool)], [torch.ones(2, 2, dtype=torch.uint8)])
    assert found["cIoU"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("predictions", "truths", "message"),
    [
        ([mask("1")], [], "1 predictions for 0 truths"),
        ([mask("1 1")], [truth("1")], r"picture 0: the prediction is \(1, 2\), the truth \(1, 1\)"),
        ([mask("1"), mask("1")], [truth("1"), truth("7")], r"picture 1: the truth holds \[7\]"),
    ],
)
def test_what_does_not_fit_is_refused(predictions, truths, message):
    with pytest.raises(ValueError, match=message):
        reason_seg_metrics(predictions, truths)


def test_processes_are_merged():
    one, other, both = ReasonSegMetric(), ReasonSegMetric(), ReasonSegMetric()
    one.update([1], [2])
    other.update([0, 3], [0, 3])
    both.update([1, 0, 3], [2, 0, 3])
    one.merge(other)
    assert one.compute() == both.compute()
    with pytest.raises(ValueError, match="1 intersections for 2 unions"):
        one.update([1], [1, 2])
