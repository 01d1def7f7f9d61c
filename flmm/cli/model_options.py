"""The options that name a model."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flmm.api import GroundingModel


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --config, --checkpoint and --device, as `flmm.load` takes them."""
    parser.add_argument("--config", help="config of the model [that of the checkpoint, else the tiny model]")
    parser.add_argument("--checkpoint", help="trained head: file, folder or user/head of the hub [the tiny model's]")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 [cuda if there is one]")


def load_model(args: argparse.Namespace) -> GroundingModel:
    """Load the model of the options as `flmm.load` does, without its reports of what was loaded.

    They tell of a whole model: one that lacks something is an error. Weights that take long show a bar in the terminal.
    """
    from flmm.api import load

    with _quiet():
        return load(args.config, args.checkpoint, args.device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Print no reports, and log warnings only."""
    from mmengine.logging import MMLogger
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bar()
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
