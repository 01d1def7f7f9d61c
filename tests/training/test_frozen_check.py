"""The check notices what it is there to notice: another answer, another logit, another weight, an untrained head."""

import pytest
import torch

from flmm.training.frozen_check import Said, _State, compare


def state(ids=(1, 2), logit=0.5, weights="a", head=0.0):
    return _State([Said(torch.tensor(ids), torch.tensor([[logit, 1.0]]))], weights, {"head": torch.tensor([head])})


@pytest.mark.parametrize(
    ("after", "frozen"),
    [
        ({"head": 1.0}, True),
        ({}, False),  # nothing was trained: the comparison says nothing
        ({"head": 1.0, "ids": (1, 3)}, False),
        ({"head": 1.0, "ids": (1, 2, 3)}, False),
        ({"head": 1.0, "logit": 0.5 + 2**-23}, False),
        ({"head": 1.0, "weights": "b"}, False),
    ],
)
def test_what_is_noticed(after, frozen):
    found = compare(state(), state(**after))
    assert found.is_frozen == frozen
    assert (found.answers, found.tokens) == (1, 2)
