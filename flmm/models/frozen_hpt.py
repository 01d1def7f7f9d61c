"""HPT: one image token becomes the h x w patch features of a square view."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from flmm.constants import IMAGE_TOKEN_INDEX
from flmm.models.backbone import Backbone, Tokens, checked_pixels, pictures_of
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build
from hpt.modeling_hpt import HPT
from hpt.modeling_projector import ProjectorModel


class HPTBackbone(Backbone):
    """Read samples with HPT."""

    @property
    def decoder(self) -> nn.Module:
        """Return the Llama decoder."""
        return self.model.llm.get_decoder()

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Put the projected features in the places of the image tokens."""
        size = self.model.image_size
        pixels = torch.stack([checked_pixels(picture, "HPT", (3, size, size)) for picture in pictures_of(sample)])
        features = list(self.model.image_features(pixels.to(self.device, self.model.dtype)))  # P x [h*w, D]
        embedding = self.model.llm.get_input_embeddings()
        embeds, mask_ids, images = self.spliced(sample, features, IMAGE_TOKEN_INDEX, embedding)
        side = self.model.grid_size
        return Tokens({"inputs_embeds": embeds}, mask_ids, [image.view(side, side) for image in images])

    @property
    def vocabulary(self) -> nn.Module:
        """Return the vocabulary layer of the language model."""
        return self.model.llm.get_output_embeddings()

    def generate(self, **inputs: Any) -> Tensor:
        """Let the language model go on."""
        return self.model.llm.generate(**inputs)


def with_our_projector(config: Any) -> Any:
    """Name our loader in a projector's config that names transformers' AutoModel, as the reference's configs do.

    AutoModel looks for a sub-folder's code in the folder above, and refuses projectors that load a part themselves.
    """
    if isinstance(config, Mapping) and config.get("type") == AutoModel.from_pretrained:
        return {**config, "type": ProjectorModel.from_pretrained}
    return config


class FrozenHPT(FrozenLMM):
    """Predict coarse masks from a frozen HPT.

    Args:
        llm: Causal language model or its config.
        visual_encoder: CLIP or SigLIP tower or its config.
        projector: Projector or its config.
        image_size: Side of the square images.
        visual_select_layer: Layer of the tower that is read.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(
        self,
        llm: Any,
        visual_encoder: Any,
        projector: Any,
        image_size: int = 588,
        visual_select_layer: int = -2,
        **head: Any,
    ):
        parts = build(llm), build(visual_encoder), build(with_our_projector(projector))
        model = HPT(*parts, image_size, visual_select_layer)
        super().__init__(backbone=HPTBackbone(model), **head)


class FrozenHPTSAM(RequireSAM, FrozenHPT):
    """Predict coarse masks from a frozen HPT and refine them by SAM."""
