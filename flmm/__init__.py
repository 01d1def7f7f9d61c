from typing import TYPE_CHECKING, Any

from flmm import compat
from flmm.version import __version__

if TYPE_CHECKING:
    from flmm.api import Grounding, GroundingModel, load

compat.apply()

__all__ = ["Grounding", "GroundingModel", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch and the LMMs take seconds to import, so the API comes when it is asked for
    if name not in __all__:
        raise AttributeError(f"module 'flmm' has no attribute {name!r}")
    from flmm import api

    return getattr(api, name)
