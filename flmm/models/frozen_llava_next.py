"""LLaVA-NeXT: the whole image coarsely, then its tiles finely, without their padding."""

from typing import Any, Literal

import torch
from torch import nn

from flmm.models.backbone import Backbone, Tokens, checked_pixels, pictures_of
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build


class LlavaNextBackbone(Backbone):
    """Read samples with LLaVA-NeXT."""

    channel_order: Literal["view", "layer"] = "view"
    views_include_padding = False
    num_views = 2

    @property
    def decoder(self) -> nn.Module:
        """Return the Vicuna or Mistral decoder."""
        return self.model.get_decoder()

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Put the packed features of both views in the places of the image tokens."""
        pictures = pictures_of(sample)
        sizes = [(int(picture["image_sizes"][0]), int(picture["image_sizes"][1])) for picture in pictures]
        views = [self.model.view_positions(size) for size in sizes]
        pixels = (checked_pixels(picture, "LLaVA-NeXT").to(self.device, self.model.dtype) for picture in pictures)
        features = [self.model.packed_features(picture, size) for picture, size in zip(pixels, sizes, strict=True)]
        embedding, image_token_id = self.model.get_input_embeddings(), self.model.config.image_token_id
        embeds, mask_ids, images = self.spliced(sample, features, image_token_id, embedding)
        places = [image[view.to(self.device)] for image, both in zip(images, views, strict=True) for view in both]
        return Tokens({"inputs_embeds": embeds}, mask_ids, places)


class FrozenLlavaNext(FrozenLMM):
    """Predict coarse masks from a frozen LLaVA-NeXT.

    Args:
        model: The LLaVA-NeXT model or its config.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, **head: Any):
        super().__init__(backbone=LlavaNextBackbone(build(model)), **head)


class FrozenLlavaNextSAM(RequireSAM, FrozenLlavaNext):
    """Predict coarse masks from a frozen LLaVA-NeXT and refine them by SAM."""
