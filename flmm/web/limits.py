"""What one user may ask of the page, and how a refusal is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flmm.web.texts import ENGLISH, TEXTS


class RefusedError(ValueError):
    """A request that is not carried out; the user reads why, in his language.

    Args:
        name: Key of the sentence in `flmm.web.texts`.
        **numbers: What the sentence holds in braces.
    """

    def __init__(self, name: str, **numbers: Any):
        self.name, self.numbers = name, numbers
        super().__init__(self.text(ENGLISH))

    def text(self, language: str) -> str:
        """The sentence in a language; English for an unknown one."""
        return TEXTS.get(language, TEXTS[ENGLISH])[self.name].format(**self.numbers)


@dataclass(frozen=True)
class Limits:
    """Bounds of a request, a user, and the page.

    Attributes:
        upload_megabytes: Largest file of a picture.
        megapixels: Largest picture, before it is made smaller.
        characters: Longest question or sentence.
        tokens: Longest reply.
        phrases: Most phrases of a request.
        pictures: Most pictures of a user.
        turns: Most replies and sentences about a picture.
        marks: Most masks kept of a picture; the oldest goes first.
        seconds: Longest time of a request, without waiting.
        queue: Most requests that wait, of all users.
        users: Most users whose conversations are kept; who was away longest is forgotten first.
        memory_megabytes: What a conversation keeps of the attention of its replies.
    """

    upload_megabytes: float = 10
    megapixels: float = 50
    characters: int = 500
    tokens: int = 200
    phrases: int = 16
    pictures: int = 8
    turns: int = 24
    marks: int = 40
    seconds: float = 60
    queue: int = 64
    users: int = 64
    memory_megabytes: float = 256

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name}={value}, but a limit must be above 0")

    @property
    def body_bytes(self) -> int:
        """Longest body of any request to the server: a picture as base64 text, and a little more."""
        return int(self.upload_megabytes * 2**20 * 4 / 3) + 2**16

    def text(self, text: Any) -> str:
        """A question or sentence that may be asked."""
        if not isinstance(text, str) or not text.strip():
            raise RefusedError("no_text")
        if len(text) > self.characters:
            raise RefusedError("long_text", count=len(text), most=self.characters)
        return text.strip()

    def count(self, name: str, number: int) -> None:
        """Refuse more than the limit of a name: `pictures`, `turns` or `phrases`."""
        if number > (most := getattr(self, name)):
            raise RefusedError(f"many_{name}", count=number, most=most)
