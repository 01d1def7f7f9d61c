"""LLaVA-NeXT: the whole image coarsely, then its tiles finely, without their padding."""

from typing import Any, Literal

import torch
from torch import nn

from flmm.models.backbone import Backbone, Tokens, checked_pixels
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build


class LlavaNextBackbone(Backbone):
    """LLaVA-NeXT as the pipeline sees it."""

    channel_order: Literal["view", "layer"] = "view"
    views_include_padding = False
    num_views = 2

    @property
    def decoder(self) -> nn.Module:
        """The Vicuna or Mistral decoder."""
        return self.model.get_decoder()

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Puts the packed features of both views in the place of the image token."""
        height, width = (int(length) for length in sample["image_sizes"])
        views = self.model.view_positions((height, width))
        pixels = checked_pixels(sample, "LLaVA-NeXT").to(self.device, self.model.dtype)
        features = self.model.packed_features(pixels, (height, width))
        embedding, image_token_id = self.model.get_input_embeddings(), self.model.config.image_token_id
        embeds, mask_ids, image = self.spliced(sample, features, image_token_id, embedding)
        return Tokens({"inputs_embeds": embeds}, mask_ids, [image[view.to(self.device)] for view in views])


class FrozenLlavaNext(FrozenLMM):
    """Coarse masks from a frozen LLaVA-NeXT.

    Args:
        model: The LLaVA-NeXT model or its config.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, **head: Any):
        super().__init__(backbone=LlavaNextBackbone(build(model)), **head)


class FrozenLlavaNextSAM(RequireSAM, FrozenLlavaNext):
    """Coarse masks from a frozen LLaVA-NeXT, refined by SAM."""
