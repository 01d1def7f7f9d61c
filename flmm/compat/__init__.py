"""Every patch to an upstream package, in files by reason: which version, why, and why there is no official means.

:func:`apply` runs when ``flmm`` is imported, and costs nothing then: it puts the repository first on
``sys.path``, offers a stand-in for ``mmcv._ext`` where none is installed, and hangs each patch on the import of the
module that it changes (hooks.py). Any order of imports works.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from flmm.compat import config_text, cpu, deepspeed, hooks, late, mmcv_ops, runners, transformers

ROOT = Path(__file__).resolve().parents[2]
PATCHES: list[hooks.Patch] = [
    *transformers.PATCHES,
    *config_text.PATCHES,
    *cpu.PATCHES,
    *runners.PATCHES,
    *late.PATCHES,
    *deepspeed.PATCHES,
]


def repository_first() -> None:
    """Put the repository at ``sys.path[0]``.

    segment-anything 1.0 on PyPI installs a package of the same name as our ``segment_anything/``.

    Raises:
        ImportError: When that one is there already: modules of both would be mixed.
    """
    root, ours = str(ROOT), ROOT / "segment_anything"
    if not ours.is_dir():
        return
    other = getattr(sys.modules.get("segment_anything"), "__file__", None)
    if other and not Path(other).resolve().is_relative_to(ours):
        raise ImportError(
            f"segment_anything was imported from {other}, which lacks what F-LMM needs: write `import flmm` before "
            "`import segment_anything`"
        )
    if sys.path[:1] != [root]:
        sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]


def apply() -> None:
    """Apply all patches, now or when their module is imported. Calling it again changes nothing."""
    repository_first()
    if hooks.installed():
        return
    mmcv_ops.offer()
    # torch 2.11, of configs that ask for pinned memory, on machines without a GPU
    warnings.filterwarnings("ignore", "'pin_memory' argument is set as true but no accelerator")
    hooks.install(PATCHES)
