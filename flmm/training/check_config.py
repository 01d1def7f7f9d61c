"""Find the keys of a config that nobody would read, before anything large is loaded."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from flmm.training.check_calls import ONE_SLIP, check_call, reader_of

FURTHER_RUNNER_KEYS = {"runner_type", "find_unused_parameters", "strategy", "activation_checkpointing"}


def check_config(cfg: Any) -> None:
    """Look for keys that nobody would read, before anything large is loaded.

    Raises:
        ValueError: For a top-level key one slip away from one that the runner knows, and for what `check_call` finds.
    """
    known = runner_keys()
    for key in cfg:
        near, value = difflib.get_close_matches(key, known, n=1, cutoff=ONE_SLIP), cfg[key]
        if key not in known and near and not callable(value) and _meant(value, cfg.get(near[0])):
            raise ValueError(f"unknown config key `{key}`: did you mean `{near[0]}`?")
        _check_keywords(value, key)
    for key in ("max_iters", "max_epochs"):
        length = (cfg.get("train_cfg") or {}).get(key)
        if isinstance(length, int) and length < 1:
            raise ValueError(f"config key `train_cfg.{key}` is {length}: train for at least 1")


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
        if meant := _slip(cfg.get(first), key.split(".")):
            raise ValueError(f"--cfg-options {word}: the config has no such key; did you mean `{meant}`?")


def _slip(node: Any, parts: Sequence[str]) -> str | None:
    """Return the key that was meant by one which is not below the first of its parts, if one there is a slip away."""
    for depth, part in enumerate(parts[1:], start=1):
        if isinstance(node, list | tuple) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, dict):
            return None
        if part not in node:
            near = difflib.get_close_matches(part, list(node), n=1, cutoff=ONE_SLIP)
            return ".".join([*parts[:depth], *near]) if near else None
        node = node[part]
    return None


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
        if target := reader_of(node, place):
            check_call(target, node, place)
        for key in node:
            _check_keywords(node[key], f"{place}.{key}")
