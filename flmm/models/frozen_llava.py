"""LLaVA-1.5: one image token becomes the h x w patch features of a square view."""

from typing import Any

import torch
from torch import nn

from flmm.models.backbone import Backbone, Tokens, checked_pixels, pictures_of
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build


class LlavaBackbone(Backbone):
    """Read samples with LLaVA-1.5."""

    @property
    def decoder(self) -> nn.Module:
        """Return the Llama decoder."""
        return self.model.get_decoder()

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Put the CLIP features in the places of the image tokens."""
        vision = self.model.config.vision_config
        shape = (3, vision.image_size, vision.image_size)
        pixels = torch.stack([checked_pixels(picture, "LLaVA-1.5", shape) for picture in pictures_of(sample)])
        features = self.model.get_image_features(pixels.to(self.device, self.model.dtype)).pooler_output  # P x [h*w, D]
        embedding, image_token_id = self.model.get_input_embeddings(), self.model.config.image_token_id
        embeds, mask_ids, images = self.spliced(sample, features, image_token_id, embedding)
        side = vision.image_size // vision.patch_size
        return Tokens({"inputs_embeds": embeds}, mask_ids, [image.view(side, side) for image in images])


class FrozenLlava(FrozenLMM):
    """Predict coarse masks from a frozen LLaVA-1.5.

    Args:
        model: The LLaVA model or its config.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, **head: Any):
        super().__init__(backbone=LlavaBackbone(build(model)), **head)


class FrozenLlavaSAM(RequireSAM, FrozenLlava):
    """Predict coarse masks from a frozen LLaVA-1.5 and refine them by SAM."""
