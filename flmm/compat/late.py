"""Upstream packages whose code runs when one of their names is first asked for, not when they are imported.

Most of the time in which a command starts goes into modules that it never calls: importing mmseg's U-Net runs
``mmseg/models/__init__.py``, which imports all models of mmseg and mmdet, and a runner of mmengine imports
DeepSpeed. Here such a package exists as soon as it is imported, with its path, so that modules below it can be
imported; its code runs with the first ``getattr`` that does not find its name. A registry that looks
something up by its name as a string runs what it would have imported (:func:`complete_registries`).

No official means: ``importlib.util.LazyLoader`` runs a package as soon as a module below it is imported.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# mmengine 0.10.7, mmcv 2.1.0, mmseg 1.2.2, mmdet 3.3.0, xtuner 0.2.0, deepspeed 0.18.9.
# Names with a home are taken from there.
LATE: dict[str, dict[str, str]] = {
    "mmengine.optim": {
        "OptimWrapper": "mmengine.optim.optimizer.optimizer_wrapper",
        "OptimWrapperDict": "mmengine.optim.optimizer.optimizer_wrapper_dict",
    },
    "mmengine.optim.optimizer": {},  # asks transformers for an optimizer, which imports peft
    "mmcv.cnn": {  # mmengine's runners
        "ConvModule": "mmcv.cnn.bricks.conv_module",
        "build_activation_layer": "mmcv.cnn.bricks.activation",
        "build_norm_layer": "mmcv.cnn.bricks.norm",
        "build_upsample_layer": "mmcv.cnn.bricks.upsample",
    },
    "mmseg.models": {},
    "mmseg.models.backbones": {},
    "mmseg.models.utils": {  # all operators of mmcv
        "UpConvBlock": "mmseg.models.utils.up_conv_block",
        "Upsample": "mmseg.models.utils.wrappers",
    },
    "mmdet.models": {
        "CrossEntropyLoss": "mmdet.models.losses.cross_entropy_loss",
        "DiceLoss": "mmdet.models.losses.dice_loss",
    },
    "mmdet.models.losses": {},
    "xtuner.dataset": {},  # Hugging Face's datasets, pandas and pyarrow
    "xtuner.model": {},
    "deepspeed": {},  # mmengine imports it for everyone
    "tifffile": {},  # and mmcv this
    "matplotlib.pyplot": {},  # and mmdet.utils this
}
# Modules below these expect the package's code to have run.
WHOLE = {"deepspeed", "tifffile"}


class LateModule(ModuleType):
    """A module whose code has not run yet."""

    def __getattr__(self, name: str) -> Any:
        # What else is asked of any module with two underscores is asked by those who look at all modules.
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(name)
        home = LATE[self.__name__].get(name)
        if home is not None:
            return getattr(importlib.import_module(home), name)
        run(self)
        return getattr(self, name)


class LateLoader(importlib.abc.Loader):
    """Make a :class:`LateModule`; the module's loader runs it later."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:  # get_source, is_package, ... of the module's loader
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make an empty module."""
        return LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing yet."""


def run(module: ModuleType) -> None:
    """Run a late module's code; from then on it is a module like others."""
    loader = getattr(module.__spec__, "loader", None)
    if not isinstance(module, LateModule) or not isinstance(loader, LateLoader):
        return
    module.__class__ = ModuleType  # type: ignore[assignment]
    try:
        loader.loader.exec_module(module)
    except BaseException:
        module.__class__ = LateModule  # the next one to ask gets the same error
        raise


def before_submodule(name: str) -> None:
    """Run the package of a submodule that is being imported, where the submodule expects that."""
    package = name.partition(".")[0]
    if package != name and package in WHOLE and package in sys.modules:
        run(sys.modules[package])


def complete_registries(module: ModuleType) -> None:
    """Let a registry of mmengine 0.10.7 find by name what is in a late package.

    Registries import their packages when they miss a name; importing alone no longer runs these.
    """
    importing = module.Registry.import_from_location

    def import_from_location(self: Any) -> None:
        importing(self)
        for name in LATE:
            if name in sys.modules and any(name.startswith(location) for location in self._locations):
                run(sys.modules[name])

    module.Registry.import_from_location = import_from_location


PATCHES = [("mmengine.registry.registry", complete_registries)]
