"""Find the keys of a config that nobody would read, before anything large is loaded."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

FURTHER_RUNNER_KEYS = {"runner_type", "find_unused_parameters", "strategy", "activation_checkpointing"}
# Keys that builders take out of a dict before they call its `type`.
BUILDER_KEYS = {"type", "_scope_", "priority", "convert_to_iter_based", "requires_grad"}


def check_config(cfg: Any) -> None:
    """Look for keys that nobody would read, before anything large is loaded.

    Raises:
        ValueError: For a top-level key one slip away from one that the runner knows, and for a keyword that a class or
            function named by `type` does not take.
    """
    known = runner_keys()
    for key in cfg:
        near, value = difflib.get_close_matches(key, known, n=1, cutoff=0.85), cfg[key]
        if key not in known and near and not callable(value) and _meant(value, cfg.get(near[0])):
            raise ValueError(f"unknown config key `{key}`: did you mean `{near[0]}`?")
        _check_keywords(value, key)


def _meant(value: Any, known: Any) -> bool:
    """Tell whether a value belongs under a known key: nothing is there, or a dict that has all of its keys."""
    if isinstance(value, dict) and isinstance(known, dict):
        return set(value) <= set(known)
    return not known  # as `load_from = None`


def check_options(words: Sequence[str], cfg: Any) -> None:
    """Look for settings of a command line that nobody would read.

    Args:
        words: KEY=VALUE each; a key may have several parts, as in `train_cfg.max_iters`.
        cfg: The config before they are set.

    Raises:
        ValueError: A word without `=`, or a key that neither the config nor a runner has.
    """
    known = {*cfg, *runner_keys()}
    for word in words:
        key, sign, _ = word.partition("=")
        if not sign:
            raise ValueError(f"--cfg-options {word}: write KEY=VALUE, such as train_cfg.max_iters=100")
        if (first := key.split(".")[0]) not in known:
            near = difflib.get_close_matches(first, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else "its keys are in the config file"
            raise ValueError(f"--cfg-options {word}: the config has no `{first}`, so nothing would read it; {hint}")


def runner_keys() -> set[str]:
    """Return the keys that MMEngine's runners read; all others at the top of a config are its author's variables."""
    from mmengine.runner import Runner  # not above: with MMEngine's runners flmm.runner is imported, which needs this

    return {*inspect.signature(Runner.__init__).parameters, *FURTHER_RUNNER_KEYS}


def read_by_runner(cfg: Any) -> dict[str, Any]:
    """Return the part of a config that a runner reads, without the author's variables."""
    known = runner_keys()
    return {key: cfg[key] for key in cfg if key in known}


def _check_keywords(node: Any, place: str) -> None:
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            _check_keywords(item, f"{place}[{index}]")
    elif isinstance(node, dict):
        if callable(node.get("type")):
            _check_call(node, place)
        for key in node:
            _check_keywords(node[key], f"{place}.{key}")


def _check_call(node: dict, place: str) -> None:
    target = node["type"]
    known, open_ended = _keywords(target)
    unknown = sorted(set(node) - known - BUILDER_KEYS)
    if open_ended or not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(sorted(known))}"
    raise ValueError(
        f"unknown config key `{place}.{unknown[0]}`: {getattr(target, '__qualname__', target)} does not take it; {hint}"
    )


def _keywords(target: Any) -> tuple[set[str], bool]:
    """Return the names of the keywords a callable takes, and whether it may take others.

    Our own classes hand their ``**kwargs`` to the base class; what other packages do with theirs cannot be
    known.
    """
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(base)["__init__"] for base in target.__mro__[:-1] if "__init__" in vars(base)]
    known: set[str] = set()
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        known |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return known, False
        if not function.__module__.startswith("flmm."):
            return known, True
    return known, True
