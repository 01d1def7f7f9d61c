"""Ground words in pixels with a frozen large multimodal model. Light to import: torch comes when it is needed."""

from typing import TYPE_CHECKING, Any

from flmm import compat

if TYPE_CHECKING:
    from flmm.api import Grounding, GroundingModel, load
    from flmm.chat import Conversation, Reply

__version__ = "0.1.0"
__all__ = ["Conversation", "Grounding", "GroundingModel", "Reply", "__version__", "load"]

compat.apply()


def __getattr__(name: str) -> Any:
    # torch and the LMMs take seconds to import, so the API comes when it is asked for
    if name not in __all__:
        raise AttributeError(f"module 'flmm' has no attribute {name!r}")
    from flmm import api, chat

    return getattr(chat if name in chat.__all__ else api, name)
