import pytest

from flmm.evaluation.presence import area_under_curve


def test_area_under_curve_is_the_share_of_pairs_in_order():
    assert area_under_curve([0.9, 0.8], [0.1, 0.2]) == 1
    assert area_under_curve([0.1], [0.9, 0.1]) == 0.25
    assert area_under_curve([0.5] * 3, [0.5] * 4) == 0.5
    with pytest.raises(ValueError, match="0 present and 1 absent"):
        area_under_curve([], [1])
