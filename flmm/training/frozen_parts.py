"""The frozen parts of a model in a run of several processes: the same everywhere, and never sent anywhere."""

from __future__ import annotations

import torch
from mmengine.dist import all_gather_object, broadcast
from mmengine.model import BaseModel
from torch import nn

from flmm.checkpoint import trainable


def frozen_names(model: nn.Module) -> list[str]:
    """Return the names of the parameters that take no gradient."""
    return [name for name, value in model.named_parameters() if not value.requires_grad]


def checksum(model: nn.Module) -> int:
    """Sum over the bits of all frozen parameters; exact, so it does not depend on device or order."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    frozen = (value.detach() for value in model.parameters() if not value.requires_grad)
    return sum(int(value.view(integers[value.element_size()]).sum(dtype=torch.int64)) for value in frozen)


def check_alike(model: nn.Module) -> None:
    """Compare the frozen parameters of all processes; cheaper than sending those of the first to the others.

    Raises:
        ValueError: When they differ; names the processes.
    """
    sums = all_gather_object(checksum(model))
    differing = [rank for rank, value in enumerate(sums) if value != sums[0]]
    if differing:
        raise ValueError(
            f"the frozen weights of process(es) {differing} are not those of process 0: the nodes read different "
            "files of the LMM or of SAM. Copy them again, or put them where all nodes read the same ones"
        )


def init_head(model: BaseModel) -> None:
    """Initialize a model as its parts say, unless a head was loaded; give all processes what the first one drew.

    MMEngine's runners do so with every parameter of the LMM too.

    Raises:
        ValueError: When the head could not be saved whole (`flmm.checkpoint.trainable`).
    """
    trainable(model)
    if not model.is_init:
        model.init_weights()
    frozen = set(frozen_names(model))
    for name, value in model.state_dict().items():
        if name not in frozen:
            broadcast(value)


def flatten(model: nn.Module) -> None:
    """Make a model one module, with all trained parameters under their full names and no submodules.

    The model goes on using its parts as attributes. Whoever walks the tree afterwards finds the head alone, so it is
    to be moved, cast and set to training before. ZeRO-3 gathers the parameters of a module when the module is
    called: SAM's decoder is called once per length of phrase, so processes with other phrases would wait for each
    other for ever. Of one module all are gathered at once.
    """
    head = {name: value for name, value in model.named_parameters() if value.requires_grad}
    for store in (model._modules, model._parameters):
        parts = dict(store)  # type: ignore[call-overload]
        store.clear()
        for name, part in parts.items():
            object.__setattr__(model, name, part)
    for name in head.keys() & vars(model).keys():
        object.__delattr__(model, name)
    model._parameters.update(head)
