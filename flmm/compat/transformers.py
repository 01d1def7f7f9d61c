"""Names that other packages import from where older versions of transformers kept them."""

from __future__ import annotations

import importlib
from functools import partial
from types import ModuleType
from typing import Any, NoReturn

from flmm.compat.hooks import Patch


def names_of_remote_code(module: ModuleType) -> None:
    """Offer names that code in model repositories imports.

    transformers 4.57.6 has them in ``pytorch_utils`` only, 5.24.0 the last one nowhere; the Q-Former of HPT dates from
    4.37. No official means: the importing code lies in folders of weights.
    """
    home = importlib.import_module("transformers.pytorch_utils")
    for name in ("apply_chunking_to_forward", "prune_linear_layer", "find_pruneable_heads_and_indices"):
        if not hasattr(module, name):
            setattr(module, name, getattr(home, name, partial(_gone, name)))


def _gone(name: str, *args: Any, **kwargs: Any) -> NoReturn:
    raise NotImplementedError(f"transformers.modeling_utils.{name}: this transformers has it no more")


def safetensors_are_there(module: ModuleType) -> None:
    """Answer xtuner 0.2.0, which imports ``is_safetensors_available``.

    transformers 5 has no such function: it always needs safetensors. No official means: xtuner is not released again.
    """
    module.is_safetensors_available = lambda: True  # type: ignore[attr-defined]


PATCHES: list[Patch] = [
    ("transformers.modeling_utils", names_of_remote_code),
    ("transformers.utils", safetensors_are_there),
]
