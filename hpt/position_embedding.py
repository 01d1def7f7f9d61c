"""Vision towers at another image size than they were trained at."""

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def set_image_size(tower: nn.Module, image_size: int) -> None:
    """Re-interpolates the position embedding of a transformers CLIP or SigLIP tower to images of `image_size`.

    Raises:
        ValueError: When patches do not fill such an image.
    """
    embeddings = tower.embeddings
    grid, rest = divmod(image_size, embeddings.patch_size)
    if rest or grid < 1:
        raise ValueError(f"image_size={image_size} is not a multiple of the {embeddings.patch_size} pixels of a patch")
    extra = embeddings.num_positions - embeddings.num_patches  # CLIP's class token
    weight = embeddings.position_embedding.weight
    resized = torch.cat([weight[:extra].float(), resize_grid(weight[extra:].float(), grid)])
    # HPT rounds here to float16 whatever the dtype of the tower is, and heads were trained on that
    resized = resized.half().to(weight.dtype)
    embeddings.position_embedding = nn.Embedding.from_pretrained(resized, freeze=not weight.requires_grad)
    embeddings.num_patches, embeddings.num_positions = grid * grid, len(resized)
    embeddings.position_ids = torch.arange(len(resized), device=weight.device)[None]
    embeddings.image_size = tower.config.image_size = image_size


def resize_grid(weight: Tensor, side: int) -> Tensor:
    """Resizes the embeddings of a square grid bicubically: [n * n, D] -> [side * side, D]."""
    trained = isqrt(len(weight))
    picture = weight.T.reshape(1, -1, trained, trained)
    return F.interpolate(picture, size=(side, side), mode="bicubic", align_corners=False).flatten(2)[0].T
