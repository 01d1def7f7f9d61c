"""Gradients of an accumulation window that a checkpoint falls into."""

from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from flmm.checkpoint import trainable


def pending_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Copy the gradients that were gathered since the last step, on the CPU; none between two windows.

    Inside a window each process has gradients of its samples only. Their mean over the processes is what the step at
    the end makes of them. All processes must call it.
    """
    parameters = trainable(model)
    if all(parameter.grad is None for parameter in parameters.values()):
        return {}
    return {name: _mean_gradient(parameter).cpu() for name, parameter in parameters.items()}


def _mean_gradient(parameter: nn.Parameter) -> Tensor:
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()
    if get_world_size() > 1:
        all_reduce(gradient, "mean")
    return gradient


def restore_gradients(model: nn.Module, gradients: Mapping[str, Tensor]) -> None:
    """Go on inside a window with the gradients that `pending_gradients` copied."""
    parameters = trainable(model)
    for name, gradient in gradients.items():
        parameters[name].grad = gradient.to(parameters[name])
