"""Commands as a user types them, run in the process of the test."""

import runpy
import sys
from pathlib import Path

import pytest


def typed(patch: pytest.MonkeyPatch, module: str | Path, *words: object) -> None:
    """Run a module, or a script by its path, with these words behind its name; its exit status has to be 0."""
    patch.setattr(sys, "argv", [str(module), *map(str, words)])
    run = runpy.run_path if str(module).endswith(".py") else runpy.run_module
    try:
        run(str(module), run_name="__main__")
    except SystemExit as ended:
        assert not ended.code  # noqa: PT017  not every command ends with one


def without_waiting(patch: pytest.MonkeyPatch) -> None:
    """Train alone and at once: accelerate waits for no other process, MMEngine sleeps after no epoch."""
    patch.setenv("LOCAL_RANK", "0")  # xtuner sets it
    patch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)  # 2 s after every epoch
