import pytest
import torch

from flmm.evaluation.presence import area_under_curve, word_support


def test_support_is_that_of_the_least_expected_word_of_each_phrase():
    probabilities = torch.tensor(
        [
            [0.1, 0.8, 0.1],  # after token 0 of phrase 0
            [0.5, 0.25, 0.25],  # after token 1
            [0.2, 0.2, 0.6],  # after the last one of phrase 0: what phrase 1 begins with is not asked
            [0.01, 0.98, 0.01],
            [1 / 3, 1 / 3, 1 / 3],
        ]
    )
    support = word_support(probabilities.log(), torch.tensor([0, 1, 2, 0, 0]), torch.tensor([0, 0, 0, 1, 1]), 2)
    assert support.tolist() == pytest.approx([0.5, 0.01 / 0.98])


def test_a_phrase_of_one_token_is_not_doubted():
    logits = torch.randn(3, 7, dtype=torch.bfloat16)
    assert word_support(logits, torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2]), 3).tolist() == [1, 1, 1]
    assert word_support(logits[:1], torch.tensor([1]), torch.tensor([0]), 1).tolist() == [1]


def test_area_under_curve_is_the_share_of_pairs_in_order():
    assert area_under_curve([0.9, 0.8], [0.1, 0.2]) == 1
    assert area_under_curve([0.1], [0.9, 0.1]) == 0.25
    assert area_under_curve([0.5] * 3, [0.5] * 4) == 0.5
    with pytest.raises(ValueError, match="0 present and 1 absent"):
        area_under_curve([], [1])
