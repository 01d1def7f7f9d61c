"""Configs as text."""

from __future__ import annotations

from typing import Any

from flmm.compat.hooks import Patch


def laid_out_once(module: Any) -> None:
    """Lay out each text of a config once, for log, visualizers and checkpoints together.

    mmengine 0.10.7 calls yapf whenever one of them asks for the text: six times a second or more before the first
    step, and with every checkpoint. No official means: ``Config.pretty_text`` keeps nothing.
    """
    lay_out = module.FormatCode
    known: dict[tuple[str, str], tuple[str, bool]] = {}

    def lay_out_once(text: str, **options: Any) -> tuple[str, bool]:
        key = (text, repr(options))
        if key not in known:
            known[key] = lay_out(text, **options)
        return known[key]

    module.FormatCode = lay_out_once


PATCHES: list[Patch] = [("mmengine.config.config", laid_out_once)]
