"""Run a function right after an upstream module is imported, or at once if that has happened already.

The import of the module calls it, because importing all of them to patch them would take ten seconds.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from flmm.compat import late

Patch = tuple[str, Callable[[ModuleType], None]]  # full name of a module, and what to do with it


def installed() -> bool:
    """Tell whether :func:`install` has run."""
    return any(isinstance(finder, _PatchFinder) for finder in sys.meta_path)


def install(patches: Sequence[Patch]) -> None:
    """Apply patches, now or when their module is imported; make the packages of late.py late."""
    finder = _PatchFinder(patches)
    sys.meta_path.insert(0, finder)
    for name in dict.fromkeys(name for name, _ in patches):
        if name in sys.modules:
            finder.patch(sys.modules[name])


class _PatchFinder(importlib.abc.MetaPathFinder):
    """Finds patched and late modules as everyone else would, and wraps their loader."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches = patches

    def patch(self, module: ModuleType) -> None:
        """Apply the patches of a module that has just been imported."""
        for name, function in self._patches:
            if name == module.__name__:
                function(module)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        late.before_submodule(fullname)
        is_late = fullname in late.LATE
        if not is_late and all(fullname != name for name, _ in self._patches):
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = late.LateLoader(spec.loader) if is_late else _PatchLoader(spec.loader, self.patch)
        return spec


class _PatchLoader(importlib.abc.Loader):
    """Runs a module's loader, then its patches."""

    def __init__(self, loader: importlib.abc.Loader, patch: Callable[[ModuleType], None]) -> None:
        self._loader, self._patch = loader, patch

    def __getattr__(self, name: str) -> Any:  # get_source, is_package, ... of the module's loader
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)
