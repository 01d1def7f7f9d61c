"""Stand-in for the compiled functions of mmcv: each can be imported, none can be called.

mmdet 3.3.0 and mmsegmentation 1.2.2 import ``mmcv.ops``, which needs the compiled ``mmcv._ext``. Building mmcv
2.1.0 takes up to 20 minutes and often fails. mmcv-lite is a pure wheel without that module, and nothing that we use
calls it. This file is installed into mmcv's folder (pyproject.toml), so mmdet can be imported before flmm. Python
prefers a compiled ``_ext`` in the same folder, so this file hides nothing where `mmcv` itself is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv.ops: the compiled function `{name}` was called, but mmcv-lite has none. "
            "F-LMM needs none of them; for your own code install `mmcv` 2.1.0 instead of `mmcv-lite`."
        )

    return missing
