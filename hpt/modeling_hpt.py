"""HPT as one module."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from flmm.models.loading import CheckedLoading
from hpt.position_embedding import set_image_size


class LanguageModel(CheckedLoading, AutoModelForCausalLM):
    """Any causal language model of transformers; HPT Air has Yi-6B-Chat (a Llama), HPT Air 1.5 has Llama-3-8B."""


class HPT(nn.Module):
    """A vision tower, a projector and a language model.

    Args:
        llm: Causal language model of transformers.
        visual_encoder: CLIP or SigLIP tower of transformers.
        projector: Maps features of the tower to the width of the language model.
        image_size: Side of the square images; the tower's position embedding is re-interpolated to it.
        visual_select_layer: Layer of the tower that is read; 0 is the embedding, -1 the last.
    """

    def __init__(
        self, llm: Any, visual_encoder: Any, projector: nn.Module, image_size: int, visual_select_layer: int = -2
    ):
        super().__init__()
        set_image_size(visual_encoder, image_size)
        self.llm = llm
        self.visual_encoder = visual_encoder.to(llm.dtype)
        self.projector = projector.to(llm.dtype)
        self.image_size = image_size
        self.visual_select_layer = visual_select_layer

    @property
    def dtype(self) -> torch.dtype:
        """That of the language model; the other two follow it."""
        return self.llm.dtype

    @property
    def grid_size(self) -> int:
        """Patches along each side of an image."""
        return self.image_size // self.visual_encoder.config.patch_size

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Images [B, 3, image_size, image_size] as inputs of the language model [B, grid_size², D].

        Raises:
            ValueError: When the images have another size, or the projector does not keep a token per patch.
        """
        size = [3, self.image_size, self.image_size]
        if list(pixel_values.shape[1:]) != size:
            raise ValueError(
                f"pixel_values is {list(pixel_values.shape)}, but this HPT reads images of {size}: "
                "image_size of the model and of its image processor must agree"
            )
        layers = self.visual_encoder(pixel_values, output_hidden_states=True).hidden_states
        features = self.projector(layers[self.visual_select_layer][:, -(self.grid_size**2) :])
        if features.shape[1] != self.grid_size**2:
            raise ValueError(
                f"{type(self.projector).__name__} makes {features.shape[1]} tokens of {self.grid_size} x "
                f"{self.grid_size} patches: without one token per patch there is no place to ground"
            )
        return features
