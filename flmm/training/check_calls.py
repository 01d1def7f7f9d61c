"""Find what the class or function that reads a dict of a config does not take: unknown keys, words for numbers."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import torch

ONE_SLIP = 0.85  # likeness of two keys of which one is the other, mistyped
# Keys that builders take out of a dict before they call its `type`; some in dicts at one place only.
BUILDER_KEYS = {"type", "_scope_", "priority", "convert_to_iter_based", "requires_grad"}
BUILDER_KEYS_AT = {"train_cfg": {"by_epoch"}, "optim_wrapper": {"constructor", "paramwise_cfg"}}
PASSING_ON = ("flmm.", "mmengine.")  # packages whose classes hand all of their `**kwargs` to the base class
PLAIN = (int, float, bool, type(None), torch.Tensor)  # types of which no word is one


def reader_of(node: dict, place: str) -> Callable | None:
    """Return the class or function that reads a dict.

    Args:
        node: The dict.
        place: Its keys from the top, joined by dots.

    Returns:
        What `type` names, else what MMEngine takes at this place; none where that is not known.
    """
    from mmengine import registry, runner  # not above: with them flmm.runner is imported, which needs this
    from mmengine.dist import init_dist
    from mmengine.optim import OptimWrapper
    from mmengine.utils.dl_utils import set_multi_processing

    named = node.get("type")
    if isinstance(named, str):
        rooms = (
            registry.LOOPS,
            registry.HOOKS,
            registry.OPTIM_WRAPPERS,
            registry.OPTIMIZERS,
            registry.PARAM_SCHEDULERS,
        )
        return next((room.module_dict[named] for room in rooms if named in room.module_dict), None)
    if named is not None:
        return named if callable(named) else None
    readers: dict[str, Callable] = {
        "train_cfg": runner.EpochBasedTrainLoop if node.get("by_epoch", True) else runner.IterBasedTrainLoop,
        "optim_wrapper": OptimWrapper,
        "optim_wrapper.clip_grad": torch.nn.utils.clip_grad_norm_,
        "log_processor": runner.LogProcessor,
        "randomness": runner.Runner.set_randomness,
        "env_cfg.mp_cfg": set_multi_processing,
        "env_cfg.dist_cfg": init_dist,
    }
    return readers.get(place)


def check_call(target: Callable, node: dict, place: str) -> None:
    """Check the keywords that a dict gives to its reader.

    Args:
        target: The reader.
        node: The dict.
        place: Its keys from the top, joined by dots.

    Raises:
        ValueError: When the reader does not take a keyword, or one is a word where numbers or truths are taken.
    """
    known, open_ended = _parameters(target)
    name = getattr(target, "__qualname__", target)
    for key in sorted(set(node) - known.keys() - BUILDER_KEYS - BUILDER_KEYS_AT.get(place, set())):
        near = difflib.get_close_matches(key, list(known), n=1, cutoff=ONE_SLIP if open_ended else 0.6)
        if near or not open_ended:
            hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(sorted(known))}"
            raise ValueError(f"unknown config key `{place}.{key}`: {name} does not take it; {hint}")
    for key in known.keys() & set(node):
        if isinstance(node[key], str) and (kinds := _plain(known[key])):
            raise ValueError(f"config key `{place}.{key}` is {node[key]!r}, but {name} takes {' or '.join(kinds)}")


def _parameters(target: Callable) -> tuple[dict[str, Any], bool]:
    """Return the keywords that a reader takes with their annotations, and whether it may take others.

    What a package does with its ``**kwargs`` cannot be known, but for those that hand all of them to the base class.
    """
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(base)["__init__"] for base in target.__mro__[:-1] if "__init__" in vars(base)]
    known: dict[str, Any] = {}
    is_open = False
    for function in functions:
        parameters, hints = inspect.signature(function).parameters.values(), _hints(function)
        named = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        known = {name: hints.get(name) for name in named if name != "self"} | known
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return known, is_open
        is_open |= not function.__module__.startswith(PASSING_ON)
    return known, True


def _hints(function: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # of names that are imported for type checkers alone
        return {}


def _plain(annotation: Any) -> list[str]:
    """Return the names of the types of an annotation, when no word is one of them."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if is_union else (annotation,)
    if annotation is None or not all(kind in PLAIN for kind in kinds):
        return []
    return [kind.__name__ for kind in kinds if kind is not type(None)]
