"""Look again: ask the same question with a crop of the picture, encoded again at the LMM's full resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from flmm.chat.prompt import Picture, Prompt
from flmm.chat.regions import Box, region_mask
from flmm.datasets.prompts import PICTURE, Turn

if TYPE_CHECKING:
    from flmm.chat.reply import Reply

SMALLEST = 16  # pixels of a crop, as in the reference


@dataclass(frozen=True)
class Look:
    """A second look at a region. Which of the two replies to trust is left to the reader.

    Attributes:
        box: x0, y0, x1, y1 of the crop in pixels.
        picture: Index of the picture.
        first: The reply before.
        second: The reply with the crop beside the picture, or with the crop alone where the LMM reads one picture.
    """

    box: tuple[int, int, int, int]
    picture: int
    first: Reply
    second: Reply

    @property
    def crop(self) -> Image.Image:
        """What was looked at again."""
        return self.first.shown(self.picture).image.crop(self.box)


def crop_box(mask: np.ndarray, box_scale: float = 1.0) -> tuple[int, int, int, int]:
    """Return the box of a mask to look at again, by the rule of the reference.

    Args:
        mask: [H, W] bool.
        box_scale: Factor on the sides of the box.

    Returns:
        x0, y0, x1, y1: around the middle of the mask's outermost pixels, at least 16 pixels wide and high before it is
        scaled and clipped to the picture; the whole picture for an empty mask.
    """
    if not box_scale > 0:
        raise ValueError(f"box_scale={box_scale} must be above 0")
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        return 0, 0, width, height
    (x0, x1), (y0, y1) = ((int(side.min()), int(side.max())) for side in (xs, ys))
    half_x, half_y = (max((high - low) / 2, SMALLEST / 2) * box_scale for low, high in ((x0, x1), (y0, y1)))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    box = max(x - half_x, 0), max(y - half_y, 0), min(x + half_x, width), min(y + half_y, height)
    left, top, right, bottom = (int(side) for side in box)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def region_box(
    reply: Reply, box: Box | None, phrase: Any, mask: np.ndarray | None, picture: int, box_scale: float
) -> tuple[int, int, int, int]:
    """The box of a region that is given as a box, as words of a reply, or as a mask (errors: `Conversation.look`)."""
    if sum(one is not None for one in (box, phrase, mask)) != 1:
        raise ValueError("say where to look: give one of box=(x0, y0, x1, y1), phrase='words of the reply', mask=")
    if phrase is not None:
        return crop_box(reply.ground([phrase], picture).masks[0], box_scale)
    return crop_box(region_mask(reply.shown(picture).image, box, mask), box_scale)


def second_prompt(first: Prompt, crop: Image.Image) -> Prompt:
    """The same conversation with a crop as one more picture; for an LMM of one picture, the question about the crop."""
    shown, question = Picture.of(first.model, crop), first.turns[-1].question
    if not first.model.builder.format.several:
        return replace(first, pictures=(shown,), turns=(Turn(question, 1),))
    if PICTURE in question:
        question = f"{question} {PICTURE}"
    last = Turn(question, first.turns[-1].pictures + 1)
    return replace(first, pictures=(*first.pictures, shown), turns=(*first.turns[:-1], last))
