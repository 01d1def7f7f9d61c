"""The compiled functions of mmcv, which mmcv-lite lacks and mmdet imports."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

STAND_IN = Path(__file__).parent / "stand_ins/mmcv/_ext.py"


def offer() -> None:
    """Offer the stand-in for ``mmcv._ext`` where flmm itself is not installed, only on ``PYTHONPATH``.

    An installed flmm has put it into mmcv's folder (stand_ins/mmcv/_ext.py says why). mmcv 2.1.0 has no option to
    leave its compiled functions out.
    """
    spec = importlib.util.find_spec("mmcv")
    folders = list(spec.submodule_search_locations or []) if spec else []
    if "mmcv._ext" in sys.modules or PathFinder.find_spec("mmcv._ext", folders):
        return
    stand_in = importlib.util.spec_from_file_location("mmcv._ext", STAND_IN)
    assert stand_in is not None
    assert stand_in.loader is not None
    module = importlib.util.module_from_spec(stand_in)
    stand_in.loader.exec_module(module)
    sys.modules["mmcv._ext"] = module
