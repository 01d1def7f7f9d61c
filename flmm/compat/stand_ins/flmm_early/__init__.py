"""Imports flmm before xtuner, mmdet or mmseg, which need its patches (flmm/compat), whoever imports them first.

torch calls :func:`start` when it is imported: entry points of ``torch.backends`` (pyproject.toml) are its official
means to run code of an installed package. xtuner 0.2.0 does not go with transformers 5, and `xtuner train` builds
MMEngine's runner before a config in the reference's form imports anything of ours. A process that imports none of the
three never imports flmm. This package is apart from flmm, since importing anything of flmm patches.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

NEEDY = ("xtuner", "mmdet", "mmseg")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: imports flmm once, then asks all others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in NEEDY or "flmm" in sys.modules:
            return None
        importlib.import_module("flmm")
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        return next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)


def start() -> None:
    """Wait for the first import of a package that needs the patches."""
    if "flmm" not in sys.modules:
        sys.meta_path.insert(0, _Finder())
