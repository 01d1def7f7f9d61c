import pytest
import torch
from torch import nn

from flmm.models.presence import CHUNK, word_support


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
    support = word_support(torch.log, probabilities, torch.tensor([0, 1, 2, 0, 0]), torch.tensor([0, 0, 0, 1, 1]), 2)
    assert support.tolist() == pytest.approx([0.5, 0.01 / 0.98])


def test_a_phrase_of_one_token_is_not_doubted():
    logits = torch.randn(3, 7, dtype=torch.bfloat16)
    assert word_support(nn.Identity(), logits, torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2]), 3).tolist() == [
        1,
        1,
        1,
    ]
    assert word_support(nn.Identity(), logits[:1], torch.tensor([1]), torch.tensor([0]), 1).tolist() == [1]


def test_many_tokens_are_read_in_parts():
    hidden, table = torch.randn(2 * CHUNK + 3, 4), torch.randn(4, 9)
    said = torch.randint(9, (len(hidden),))
    phrases = torch.arange(len(hidden)) // 3
    count = int(phrases[-1]) + 1
    shares = (hidden @ table).softmax(-1)
    expected = [1.0] * count
    for place in range(1, len(said)):
        if place % 3:
            value = shares[place - 1, said[place]] / shares[place - 1].max()
            expected[place // 3] = min(expected[place // 3], value.item())
    support = word_support(lambda states: states @ table, hidden, said, phrases, count)
    assert support.tolist() == pytest.approx(expected, rel=1e-4)
