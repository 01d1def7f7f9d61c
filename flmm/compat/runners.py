"""Our runners, for configs and commands that do not name them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from flmm.compat.hooks import Patch


def our_deepspeed_runner(module: ModuleType) -> None:
    """Make a run that ``xtuner train --deepspeed`` starts one of flmm.runner's DeepSpeedRunner.

    The FlexibleRunner of mmengine 0.10.7 neither saves atomically nor resumes at the same sample (flmm/runner.py).
    No official means: xtuner 0.2.0 writes its name over the config's ``runner_type``.
    """
    build = module.FlexibleRunner.from_cfg.__func__

    def from_cfg(cls: Any, cfg: Any) -> Any:
        if cls is module.FlexibleRunner:
            return importlib.import_module("flmm.runner").DeepSpeedRunner.from_cfg(cfg)
        return build(cls, cfg)

    module.FlexibleRunner.from_cfg = classmethod(from_cfg)


def our_runner(module: ModuleType) -> None:
    """Make a run of an F-LMM model one of flmm.runner's CustomRunner where the config names no ``runner_type``.

    The reference's configs name none, and MMEngine's runner saves the whole LMM with every checkpoint. No official
    means: ``xtuner train`` builds that runner. Where flmm is on PYTHONPATH alone, flmm_early does not run, and the
    runner is built before such a config imports flmm: then it changes its class as soon as it has its model.
    CustomRunner adds methods only. ``flmm train`` names the runner and needs no patch.
    """
    wrap, build = module.Runner.wrap_model, module.Runner.from_cfg.__func__

    def from_cfg(cls: Any, cfg: Any) -> Any:
        if cls is module.Runner and hasattr(cfg.get("model", {}).get("type"), "ground_readings"):
            return importlib.import_module("flmm.runner").CustomRunner.from_cfg(cfg)
        return build(cls, cfg)

    def wrap_model(self: Any, model_wrapper_cfg: Any, model: Any) -> Any:
        if type(self) is not module.Runner or not hasattr(model, "ground_readings"):
            return wrap(self, model_wrapper_cfg, model)
        self.__class__ = importlib.import_module("flmm.runner").CustomRunner
        importlib.import_module("flmm.training.start").name_true_status()
        return self.wrap_model(model_wrapper_cfg, model)

    module.Runner.wrap_model = wrap_model
    module.Runner.from_cfg = classmethod(from_cfg)


PATCHES: list[Patch] = [
    ("mmengine.runner", our_deepspeed_runner),
    ("mmengine.runner.runner", our_runner),
]
