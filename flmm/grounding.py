"""What a model found: phrases of a text, their masks, boxes and scores in a picture."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flmm.boxes import object_boxes
from flmm.datasets.phrases import Span
from flmm.evaluation import binary_masks


@dataclass(frozen=True, repr=False)
class Grounding:
    """M phrases of a text, found in a picture of H x W pixels.

    Attributes:
        image: The picture, upright, RGB.
        text: The text.
        spans: M pairs (start, end): the characters of `text` that are a phrase.
        masks: [M, H, W] bool, refined by SAM (the coarse ones for a model without SAM).
        coarse_masks: [M, H, W] bool, the U-Net's.
        boxes: [M, 4] float32 x0, y0, x1, y1 in pixels around `masks`, x1 and y1 one past the last pixel; zeros where a
            mask is empty. Specks of less than 3 % of a mask are left out (`flmm.boxes.object_boxes`).
        scores: [M] float32, 0 to 1: mean probability of the pixels inside a mask (0 where it is empty), times the
            fourth root of `presence`. It tells what is in the picture from what is not; it is no probability.
        attention: [M, h, w] float32, the LMM's attention to the picture (padding cut off), mean of all layers
            and heads, each map divided by its sum; at most 256 pixels wide and high.
        attention_maps: [M, C, h', w'] float32, every layer and head as the U-Net reads it.
        logits: [M, h, w] float32, what `masks` are cut from; their sigmoid is the probability of a pixel. Of the
            picture's size, at most 2048 pixels wide and high.
        presence: [M] float32, how well the LMM itself would have said the words of a phrase, seeing the picture: 0 (out
            of the question) to 1 (its favorite, as in what it said itself), see `flmm.models.presence`.
    """

    image: Image.Image
    text: str
    spans: list[Span]
    masks: np.ndarray
    coarse_masks: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    attention: np.ndarray
    attention_maps: np.ndarray
    logits: np.ndarray
    presence: np.ndarray

    @property
    def phrases(self) -> list[str]:
        """The M phrases, as they stand in the text."""
        return [self.text[start:end] for start, end in self.spans]

    def draw(self, targets: Any = None, clusters: np.ndarray | None = None) -> Image.Image:
        """A picture of it all: text, image, attention, coarse and refined masks, and ground truth if given.

        Args:
            targets: [M, H, W] masks, bool or of two values 0 and 1, or 0 and 255; arrays or tensors.
            clusters: [M, h, w] bool, of `flmm.evaluation.clusters.attention_cluster`.
        """
        from flmm.evaluation.drawings import draw

        return draw(self, targets, clusters)

    def at(self, threshold: float) -> Grounding:
        """Cut the masks at another probability; boxes and scores follow, the coarse masks stay.

        Args:
            threshold: Between 0 and 1. Below 0.5 masks grow, above it they shrink.

        Raises:
            ValueError: For another number.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold}: give a probability between 0 and 1, such as 0.5")
        size = (self.image.height, self.image.width)
        masks, sure = masks_and_scores(torch.from_numpy(self.logits), size, threshold)
        scores = with_presence(sure, self.presence)
        return replace(self, masks=masks.numpy(), boxes=object_boxes(masks.numpy()), scores=scores)

    def __repr__(self) -> str:
        """One line: how many phrases, and the first three with their scores."""
        found = [f"{name!r} {score:.2f}" for name, score in zip(self.phrases[:3], self.scores, strict=False)]
        more = ", ..." if len(self.spans) > 3 else ""
        size = f"{self.image.width} x {self.image.height}"
        return f"Grounding({len(self.spans)} phrases in {size} pixels: {', '.join(found)}{more})"

    def _repr_html_(self) -> str:
        """The line and the drawing, for notebooks."""
        png = io.BytesIO()
        self.draw().save(png, "PNG")
        data = base64.b64encode(png.getvalue()).decode("ascii")
        return f'<p>{escape(repr(self))}</p><img alt="phrases and their masks" src="data:image/png;base64,{data}">'


def with_presence(sure: Tensor, presence: np.ndarray) -> np.ndarray:
    """Scores [M] of how sure masks are and how well their phrases fit the picture."""
    return sure.numpy() * presence**0.25


def masks_and_scores(logits: Tensor, size: tuple[int, int], threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Cut masks and score them, one phrase at a time, so that only the masks take memory.

    Args:
        logits: [M, h, w].
        size: (H, W) of the masks.
        threshold: Probability above which a pixel is inside.

    Returns:
        Boolean masks [M, H, W], and [M] mean probabilities of the pixels inside; 0 for none.
    """
    masks = torch.empty((len(logits), *size), dtype=torch.bool)
    scores = torch.zeros(len(logits))
    for i, phrase_logits in enumerate(logits):
        masks[i] = binary_masks(phrase_logits[None], size, threshold)[0].cpu()
        probabilities = phrase_logits.float().sigmoid()
        if (inside := probabilities > threshold).any():
            scores[i] = probabilities[inside].mean()
    return masks, scores
