"""The frozen parts leave the tree of modules and stay in use; a difference between processes is noticed."""

import pytest
import torch
from torch import nn
from training.toy import ToyModel

from flmm import frozen_parts
from flmm.frozen_parts import check_alike, checksum, frozen_names, set_aside


def test_the_frozen_parts_are_set_aside_and_still_work():
    model = ToyModel(dropout=0)
    data = [{"x": torch.ones(4), "file_name": "a.jpg"}]
    loss = model(data)["loss_toy"]
    frozen = model.frozen
    assert set_aside(model) == [frozen]
    assert [name for name, _ in model.named_parameters()] == ["unused", "head.weight", "head.bias"]
    model.train()
    assert model.frozen is frozen
    assert model(data)["loss_toy"] == loss
    frozen.weight.data.mul_(2)
    assert model(data)["loss_toy"] != loss


def test_parts_beside_trained_ones():
    """The largest frozen modules go; what a Sequential holds stays, since it finds its parts by the tree."""
    frozen, trained = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)
    mixed = nn.Module()
    mixed.encoder, mixed.decoder, mixed.activation = (
        nn.Sequential(nn.Linear(2, 2)).requires_grad_(False),
        trained,
        nn.ReLU(),
    )
    model = nn.Module()
    model.sam, model.chain = mixed, nn.Sequential(frozen, trained)
    encoder = mixed.encoder
    assert set_aside(model) == [encoder]
    assert model.sam.encoder is encoder
    assert set(dict(model.named_modules())) == {"", "sam", "sam.decoder", "sam.activation", "chain", "chain.0"}
    assert model.chain(torch.ones(2)).shape == (2,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_bit_of_a_frozen_weight_counts_and_the_head_does_not(dtype):
    model = ToyModel().to(dtype)
    before = checksum(model)
    model.head.weight.data += 1
    assert checksum(model) == before
    integers = {4: torch.int32, 2: torch.int16, 8: torch.int64}[model.frozen.weight.element_size()]
    model.frozen.weight.data.view(integers)[3, 1] ^= 1
    assert abs(checksum(model) - before) == 1
    assert frozen_names(model) == ["frozen.weight", "frozen.bias"]


def test_processes_with_other_weights_are_named(monkeypatch):
    model = ToyModel()
    own = checksum(model)
    monkeypatch.setattr(frozen_parts, "all_gather_object", lambda value: [value, own, own + 1, own])
    with pytest.raises(ValueError, match=r"frozen weights of process\(es\) \[2\] are not those of process 0"):
        check_alike(model)
    monkeypatch.setattr(frozen_parts, "all_gather_object", lambda value: [value, own])
    check_alike(model)
