"""What the LMM reads before it replies: pictures, and the conversation so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from flmm.api import GroundingModel, as_picture, bounded
from flmm.datasets.prompts import Turn


@dataclass(frozen=True)
class Picture:
    """A picture of a conversation.

    Attributes:
        image: The picture, upright, RGB.
        small: What the LMM and SAM see: the picture, or a smaller copy of a very large one.
        processed: What the image processor made of it.
    """

    image: Image.Image
    small: Image.Image
    processed: Mapping[str, Any]

    @classmethod
    def of(cls, model: GroundingModel, image: Any) -> Picture:
        """Prepare a file, PIL picture or array (errors: `flmm.api.as_picture`)."""
        picture = as_picture(image)
        small = bounded(picture)
        return cls(picture, small, model.builder.process(small))


@dataclass(frozen=True)
class Prompt:
    """All that the LMM reads before it replies.

    Attributes:
        model: The model that is talked to.
        pictures: The pictures shown so far.
        turns: The conversation so far; the last turn waits for its reply.
        system: System text of the user.
    """

    model: GroundingModel
    pictures: tuple[Picture, ...]
    turns: tuple[Turn, ...]
    system: str | None = None

    def sample(self, token_ids: Sequence[int] = (), mask_ids: Sequence[int] | None = None) -> dict[str, Any]:
        """Return a sample of the conversation, and of a reply if given.

        Args:
            token_ids: [T] the reply.
            mask_ids: [T] the phrase of each of its tokens, -1 for none; none belongs to a phrase when not given.
        """
        shown = [(picture.small, picture.processed) for picture in self.pictures]
        mask_ids = [-1] * len(token_ids) if mask_ids is None else mask_ids
        return self.model.builder.converse(shown, self.turns, self.system, token_ids, mask_ids)

    def with_picture(self, index: int, image: Image.Image) -> Prompt:
        """Return the same conversation about another picture."""
        pictures = list(self.pictures)
        pictures[index] = Picture.of(self.model, image)
        return replace(self, pictures=tuple(pictures))
