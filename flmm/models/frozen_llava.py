"""LLaVA-1.5: one image token becomes the h x w patch features of a square view."""

from typing import Any

import torch
from torch import nn

from flmm.models.backbone import Backbone, Tokens, expand_image_token
from flmm.models.frozen_lmm import FrozenLMM, build


class LlavaBackbone(Backbone):
    """LLaVA-1.5 as the pipeline sees it."""

    @property
    def decoder(self) -> nn.Module:
        """The Llama decoder."""
        return self.model.get_decoder()

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Puts the CLIP features in the place of the image token."""
        pixels = sample["pixel_values"][None].to(self.device, self.model.dtype)
        features = self.model.get_image_features(pixels)[0]  # [h*w, D]
        input_ids, mask_ids, image = expand_image_token(
            sample["input_ids"].to(self.device),
            sample["mask_ids"].to(self.device),
            self.model.config.image_token_id,
            len(features),
        )
        embeds = self.model.get_input_embeddings()(input_ids)
        embeds[image] = features.to(embeds.dtype)
        patch = self.model.config.vision_config.patch_size
        height, width = (side // patch for side in pixels.shape[-2:])
        return Tokens({"inputs_embeds": embeds[None]}, mask_ids, [image.view(height, width)])


class FrozenLlava(FrozenLMM):
    """Coarse masks from a frozen LLaVA-1.5.

    Args:
        model: The LLaVA model or its config.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, **head: Any):
        super().__init__(backbone=LlavaBackbone(build(model)), **head)


class FrozenLlavaSAM(FrozenLlava):
    """Coarse masks from a frozen LLaVA-1.5, refined by SAM."""

    def __init__(self, model: Any, sam: Any, **head: Any):
        super().__init__(model=model, sam=sam, **head)
