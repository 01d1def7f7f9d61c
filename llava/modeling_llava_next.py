"""LLaVA-NeXT on transformers' own modules, and where its image features lie."""

import torch
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    image_size_to_num_patches,
    unpad_image,
)

from flmm.models.loading import CheckedLoading


class CustomLlavaNextForConditionalGeneration(CheckedLoading, LlavaNextForConditionalGeneration):
    """transformers' LLaVA-NeXT under the name that configs and checkpoints of the reference use."""

    def packed_features(self, pixel_values: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Features of one image, as the decoder reads them.

        Args:
            pixel_values: [1 + tiles, 3, s, s], the whole image first.
            image_size: (height, width) of the image as it was given.

        Returns:
            [n, D]: the coarse view row by row, then the fine view, each of its rows followed by the newline feature.

        Raises:
            ValueError: When the tiles are not those of an image of this size.
        """
        side = self.config.vision_config.image_size
        views = image_size_to_num_patches(image_size, self.config.image_grid_pinpoints, side)
        if tuple(pixel_values.shape) != (views, 3, side, side):
            raise ValueError(
                f"pixel_values is {list(pixel_values.shape)}, but this LLaVA-NeXT reads an image of {image_size[0]} x "
                f"{image_size[1]} (height x width) as {[views, 3, side, side]}: use the CustomLlavaNextImageProcessor "
                "of the same repository, and give `image_sizes` of the image before it was resized"
            )
        return self.get_image_features(pixel_values, torch.tensor([image_size])).pooler_output[0]

    def view_positions(self, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Positions in `packed_features` of the coarse view [n, n] and of the fine one [h, w] without newlines.

        Args:
            image_size: (height, width) of the image as it was given.

        Raises:
            ValueError: When the image is so narrow that no feature of the fine view is left.
        """
        vision = self.config.vision_config
        side = vision.image_size // vision.patch_size
        tiles = get_anyres_image_grid_shape(image_size, self.config.image_grid_pinpoints, vision.image_size)
        padded = torch.empty(1, *(side * count for count in tiles), device="meta")
        height, width = unpad_image(padded, image_size).shape[1:]
        if height * width == 0:
            raise ValueError(
                f"an image of {image_size[0]} x {image_size[1]} (height x width) leaves {height} x {width} features "
                f"in its {tiles[0]} x {tiles[1]} tiles: it is too narrow for LLaVA-NeXT; crop it"
            )
        coarse = torch.arange(side * side).view(side, side)
        fine = side * side + torch.arange(height * (width + 1)).view(height, width + 1)
        return coarse, fine[:, :-1]
