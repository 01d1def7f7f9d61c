"""MiniGemini (MGM): one image token becomes CLIP tokens enriched with detail; in HD the whole picture, then tiles."""

import math
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import GenerationMixin

from flmm.models.backbone import Backbone, Tokens, expand_image_tokens, pictures_of
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build
from mgm.constants import IMAGE_TOKEN_INDEX


class MGMBackbone(Backbone):
    """Read samples with MGM."""

    channel_order = "layer"
    resize_before_merge = True

    @property
    def num_views(self) -> int:  # type: ignore[override]
        """Return two in HD: the whole picture and its tiles."""
        return 1 + bool(self.model.config.image_global)

    @property
    def decoder(self) -> nn.Module:
        """Return the Llama or Gemma decoder."""
        return self.model.model

    @property
    def max_length(self) -> int:
        """Return the longest sequence, which the config of MGM states."""
        return self.model.config.tokenizer_model_max_length

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Put the tokens of the pictures in the places of the image tokens."""
        pixels = self.model.process_images([square(picture["pixel_values"]) for picture in pictures_of(sample)])
        features = self.model.encode_images(*pixels)  # [N, P*h*w, D]
        input_ids = sample["input_ids"].to(self.device)
        _, mask_ids, images = expand_image_tokens(
            input_ids, sample["mask_ids"].to(self.device), IMAGE_TOKEN_INDEX, [features.shape[1]] * len(features)
        )
        embeds = self.model.embed(input_ids[None], features)
        config = self.model.config
        views = [view for image in images for view in views_of(image, config.image_grid, config.image_global)]
        return Tokens({"inputs_embeds": embeds}, mask_ids, views)

    def generate(self, **inputs: Any) -> Tensor:
        """Skip the `generate` of MGM, which expects pictures: they are in the embeddings already."""
        generate: Any = GenerationMixin.generate
        return generate(self.model, **inputs)


def square(picture: Any) -> Image.Image:
    """Return the padded picture of a sample, after checking that it is one.

    Raises:
        ValueError: When it is not a square PIL image.
    """
    if not isinstance(picture, Image.Image) or picture.width != picture.height:
        what = f"{picture.width} x {picture.height}" if isinstance(picture, Image.Image) else type(picture).__name__
        raise ValueError(
            f"pixel_values is {what}, but MGM reads a square PIL image: use image_processor=dict(type=Pad2Square) "
            "and image2tensor=False in the data set"
        )
    return picture


def views_of(image: Tensor, grid: int, has_global: bool) -> list[Tensor]:
    """Lay image positions out: the whole picture first (if any), then the tiles joined to one view.

    Args:
        image: [P*h*w] positions, h = w, P = grid² (+ 1).
        grid: The picture is cut in grid x grid tiles.
        has_global: Whether the first h*w positions show the whole picture.
    """
    parts = image.unflatten(0, (grid**2 + has_global, -1))
    side = math.isqrt(parts.shape[1])
    parts = parts.unflatten(1, (side, side))
    tiles = parts[has_global:].unflatten(0, (grid, grid))  # [grid, grid, h, w]
    fine = tiles.transpose(1, 2).reshape(grid * side, grid * side)
    return [parts[0], fine] if has_global else [fine]


class FrozenMGM(FrozenLMM):
    """Predict coarse masks from a frozen MGM.

    Args:
        model: The MGM model or its config.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, **head: Any):
        super().__init__(backbone=MGMBackbone(build(model)), **head)


class FrozenMGMSAM(RequireSAM, FrozenMGM):
    """Predict coarse masks from a frozen MGM and refine them by SAM."""
