"""A checkpoint inside an accumulation window loses no gradient."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flmm.training.gradients import pending_gradients, restore_gradients
from flmm.training.hooks import check_epochs


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))


def step(model, optimizer, data):
    for value in data:
        model(value).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_an_interrupted_window_ends_in_the_same_weights():
    data = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    whole = network()
    step(whole, torch.optim.SGD(whole.parameters(), lr=0.1), data)
    assert pending_gradients(whole) == {}  # between two windows

    first, second = network(), network()
    for value in data[:2]:
        first(value).sum().backward()
    saved = pending_gradients(first)
    assert set(saved) == set(dict(first.named_parameters()))
    restore_gradients(second, saved)
    step(second, torch.optim.SGD(second.parameters(), lr=0.1), data[2:])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    first.zero_grad()
    assert not torch.equal(saved["0.weight"], torch.zeros(3, 3))  # a copy


@pytest.mark.parametrize(("length", "steps", "fits"), [(16, 4, True), (10, 4, False), (3, 1, True)])
def test_deepspeed_saves_no_epoch_inside_a_window(length, steps, fits):
    engine = SimpleNamespace(gradient_accumulation_steps=lambda: steps)
    check_epochs(nn.Linear(1, 1), length)  # without DeepSpeed gradients are saved
    with nullcontext() if fits else pytest.raises(ValueError, match=rf"{length} batches .*accumulative_counts={steps}"):
        check_epochs(engine, length)
