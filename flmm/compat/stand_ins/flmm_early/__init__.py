"""Imports flmm at the start of `xtuner train`, before xtuner builds a runner.

A config in the reference's form names its classes lazily, so xtuner 0.2.0 has built MMEngine's own runner when flmm
is imported. xtuner and MMEngine have no hook that comes earlier. torch has one: it calls the entry points of the group
`torch.backends` when it is imported. This package is apart from flmm, since importing anything of flmm patches.
"""

import sys
from pathlib import Path


def start() -> None:
    """Import flmm in the processes of `xtuner train`, and do nothing elsewhere."""
    if Path(sys.argv[0]).parts[-3:] == ("xtuner", "tools", "train.py"):
        import flmm  # noqa: F401
