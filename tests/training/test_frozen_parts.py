"""The frozen parts leave the tree of modules and stay in use; a difference between processes is noticed."""

import pytest
import torch
from torch import nn
from toy import ToyModel

from flmm.checkpoint import load_head, trainable
from flmm.training import frozen_parts
from flmm.training.frozen_parts import check_alike, checksum, flatten, frozen_names, init_head


def test_a_flat_model_shows_its_head_and_works_as_before():
    model = ToyModel(dropout=0)
    data = [{"x": torch.ones(4), "file_name": "a.jpg"}]
    loss = model(data)["loss_toy"]
    head, frozen = trainable(model), model.frozen
    flatten(model)
    assert list(model.modules()) == [model]
    assert dict(model.named_parameters()) == head
    assert list(head) == ["unused", "head.weight", "head.bias"]
    assert model.frozen is frozen
    assert model.unused is head["unused"]
    assert model(data)["loss_toy"] == loss
    model.to(torch.float64)  # what trains is what the parts use; the frozen part is out of reach
    assert model.head.weight.dtype == torch.float64
    assert frozen.weight.dtype == torch.float32
    assert set(model.state_dict()) == set(head)


def test_a_frozen_parameter_of_the_model_itself_is_out_of_reach_too():
    model = ToyModel()
    model.scale = nn.Parameter(torch.ones(2), requires_grad=False)
    flatten(model)
    assert "scale" not in dict(model.named_parameters())
    assert torch.equal(model.scale, torch.ones(2))


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


def test_a_loaded_head_is_not_initialised_again(tmp_path):
    """`pretrained` in a config loads it when the model is built, before a runner initialises."""
    torch.save({name: torch.full_like(value, 0.5) for name, value in trainable(ToyModel()).items()}, tmp_path / "a.pth")
    fresh, loaded = (ToyModel(init_cfg={"type": "Constant", "val": 7, "layer": "Linear"}) for _ in range(2))
    load_head(loaded, tmp_path / "a.pth")
    for model in (fresh, loaded):
        init_head(model)
    assert (fresh.head.weight == 7).all()
    assert (loaded.head.weight == 0.5).all()
