"""The options that name a model."""

from __future__ import annotations

import argparse


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --config, --checkpoint and --device, as `flmm.load` takes them."""
    parser.add_argument("--config", help="config of the model [that of the checkpoint, else the tiny model]")
    parser.add_argument("--checkpoint", help="trained head: file, folder or user/head of the hub [the tiny model's]")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 [cuda if there is one]")
