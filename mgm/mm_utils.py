"""Pictures and prompts in the form that MGM reads."""

from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from mgm.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX


def expand2square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Pads a picture evenly to a square; an odd pixel goes to the bottom or right."""
    width, height = image.size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    return ImageOps.expand(image, (left, top, side - width - left, side - height - top), fill=colour)


def process_images(images: list[Image.Image], processor: Any, config: Any) -> tuple[Tensor, Tensor]:
    """Pictures for the two towers.

    Args:
        images: N pictures.
        processor: CLIP's image processor, set to `config.image_size_aux`.
        config: Of the MGM model.

    Returns:
        For CLIP [N, P, 3, s, s]: the tiles row by row, then the whole picture when `image_global`; for ConvNeXt
        [N, 3, A, A]. Float32, normalised.
    """
    images = [image.convert("RGB") for image in images]
    if config.image_aspect_ratio == "pad":
        colour = tuple(int(mean * 255) for mean in processor.image_mean)
        images = [expand2square(image, colour) for image in images]
    # said, not guessed: a picture of 1 x 1 or 3 x 3 pixels could be read either way
    pixels_aux = processor(images, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    side, grid = config.mm_vision_config["image_size"], config.image_grid
    pixels = F.interpolate(pixels_aux, size=(grid * side, grid * side), mode="bilinear")
    tiles = pixels.unflatten(3, (grid, side)).unflatten(2, (grid, side))  # [N, 3, grid, s, grid, s]
    parts = tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    if config.image_global:
        whole = F.interpolate(pixels, size=(side, side), mode="bilinear")
        parts = torch.cat([parts, whole[:, None]], dim=1)
    return parts, pixels_aux


def tokenizer_image_token(prompt: str, tokenizer: Any, image_token_index: int = IMAGE_TOKEN_INDEX) -> Tensor:
    """Token ids [1, S0] of a prompt, `image_token_index` for each `<image>`; special tokens open the text only."""
    first, *others = prompt.split(DEFAULT_IMAGE_TOKEN)
    ids = list(tokenizer(first).input_ids)
    for text in others:
        ids += [image_token_index, *tokenizer(text, add_special_tokens=False).input_ids]
    return torch.tensor([ids], dtype=torch.long)
