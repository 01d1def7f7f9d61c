"""Pictures as the page takes them, and one session of its HTTP functions."""

import base64
import io
import json
from typing import Any

from PIL import Image


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def data_url(content: bytes) -> str:
    """Bytes as the page and its HTTP functions take them."""
    return f"data:;base64,{base64.b64encode(content).decode()}"


def call(client: Any, name: str, *values: Any) -> Any:
    """What an HTTP function answers; values that are no text go as JSON."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return client.predict(*texts, api_name=f"/{name}")
