"""The text that DeepSeek-VL's chat models were tuned on."""

from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
SYSTEM_PROMPT = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
END = "<｜end▁of▁sentence｜>"


def format_conversation(messages: Sequence[Message], system_prompt: str = SYSTEM_PROMPT) -> str:
    """One prompt from the messages of a conversation.

    Args:
        messages: {"role": "User" or "Assistant", "content": text}; an empty last content is for the model to fill.
        system_prompt: What comes first; "" for nothing.

    Raises:
        ValueError: For another role.
    """
    text = f"{system_prompt}\n\n" if system_prompt else ""
    for message in messages:
        role, content = message["role"], message["content"].strip()
        if role not in ("User", "Assistant"):
            raise ValueError(f"role {role!r}: DeepSeek-VL knows 'User' and 'Assistant'")
        text += f"{role}: {content}{END if role == 'Assistant' else chr(10) * 2}" if content else f"{role}:"
    return text.strip()
