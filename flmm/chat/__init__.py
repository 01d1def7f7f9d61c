"""Talk with the LMM about pictures, ground what it says, and explain it."""

from flmm.chat.conversation import Conversation
from flmm.chat.reply import Grounded, Phrase, Reply

__all__ = ["Conversation", "Grounded", "Phrase", "Reply"]
