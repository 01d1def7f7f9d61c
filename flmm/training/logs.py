"""What MMEngine logged so far, in plain values, so that a checkpoint is readable without MMEngine's classes.

``xtuner train --resume`` and the reference's scripts read checkpoints with ``torch.load`` before they import flmm, and
torch refuses classes that nobody has allowed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

PLAIN = ("log_history", "count_history", "max_length")


def to_plain(hub: dict[str, Any]) -> dict[str, Any]:
    """Replace the history buffers in the state of a MessageHub by dicts of lists."""
    scalars = {name: _lists(buffer) for name, buffer in hub["log_scalars"].items()}
    info = {
        name: value.item() if isinstance(value, np.generic) else value for name, value in hub["runtime_info"].items()
    }
    return {**hub, "log_scalars": scalars, "runtime_info": info}


def from_plain(hub: dict[str, Any]) -> dict[str, Any]:
    """Undo `to_plain`; a state that still has its buffers (an older checkpoint) passes through."""
    scalars = {
        name: HistoryBuffer(**kept) if isinstance(kept, dict) else kept for name, kept in hub["log_scalars"].items()
    }
    return {**hub, "log_scalars": OrderedDict(scalars), "runtime_info": OrderedDict(hub["runtime_info"])}


def _lists(buffer: HistoryBuffer) -> dict[str, Any]:
    values, counts = buffer.data
    return dict(zip(PLAIN, (values.tolist(), counts.tolist(), buffer.max_length), strict=True))
