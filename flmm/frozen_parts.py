"""The frozen parts of a model in a run of several processes: the same everywhere, and never sent anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.dist import all_gather_object, broadcast
from mmengine.model import BaseModel
from torch import nn


def frozen_names(model: nn.Module) -> list[str]:
    """Names of the parameters that take no gradient."""
    return [name for name, value in model.named_parameters() if not value.requires_grad]


def checksum(model: nn.Module) -> int:
    """Sum over the bits of all frozen parameters; exact, so it does not depend on device or order."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    frozen = (value.detach() for value in model.parameters() if not value.requires_grad)
    return sum(int(value.view(integers[value.element_size()]).sum(dtype=torch.int64)) for value in frozen)


def check_alike(model: nn.Module) -> None:
    """Compares the frozen parameters of all processes; cheaper than sending those of the first to the others.

    Raises:
        ValueError: When they differ; names the processes.
    """
    sums = all_gather_object(checksum(model))
    differing = [rank for rank, value in enumerate(sums) if value != sums[0]]
    if differing:
        raise ValueError(
            f"the frozen weights of process(es) {differing} are not those of process 0: the nodes read different "
            "files of the LMM or of SAM. Copy them anew, or put them where all nodes read the same ones"
        )


def init_head(model: BaseModel) -> None:
    """Initialises a model as its parts say, and gives all processes what the first one drew.

    MMEngine's runners do so with every parameter of the LMM too.
    """
    model.init_weights()
    frozen = set(frozen_names(model))
    for name, value in model.state_dict().items():
        if name not in frozen:
            broadcast(value)


def set_aside(model: nn.Module) -> list[nn.Module]:
    """Takes the frozen parts out of a model's tree of modules; the model goes on using them as attributes.

    Whoever walks the tree afterwards (`parameters()`, `to()`, `train()`, ZeRO) finds the head alone. Frozen
    parameters beside trained ones in the same module, or in a ModuleList, stay.

    Returns:
        The parts: the largest modules that have parameters and train none.
    """
    parts = list(_frozen_children(model))
    for parent, name in parts:
        part = parent._modules.pop(name)
        object.__setattr__(parent, name, part)
    return [getattr(parent, name) for parent, name in parts]


def _frozen_children(parent: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for name, child in parent.named_children():
        parameters = list(child.parameters())
        if any(parameter.requires_grad for parameter in parameters):
            yield from _frozen_children(child)
        elif parameters and not isinstance(parent, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            yield parent, name
