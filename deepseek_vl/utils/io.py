"""Pictures of a conversation."""

from collections.abc import Sequence

from PIL import Image

from deepseek_vl.utils.conversation import Message


def load_pil_images(conversations: Sequence[Message]) -> list[Image.Image]:
    """Opens the files that messages name under "images", in order, as RGB."""
    files = [file for message in conversations for file in message.get("images", ())]
    return [Image.open(file).convert("RGB") for file in files]
