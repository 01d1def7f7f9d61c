"""Qwen2.5-VL: the picture at its own resolution, 2 x 2 patches per token, and positions with three axes."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from flmm.constants import NO_PHRASE
from flmm.models.backbone import Backbone, Tokens, checked_pixels, image_views, pictures_of
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build
from flmm.models.loading import CheckedLoading


class CustomQwenForConditionalGeneration(CheckedLoading, Qwen2_5_VLForConditionalGeneration):  # type: ignore[misc]
    """transformers' Qwen2.5-VL, refusing weights that are incomplete."""


class QwenBackbone(Backbone):
    """Qwen2.5-VL as the pipeline sees it; the processor has already laid out one token per image feature."""

    views_include_padding = False

    @property
    def decoder(self) -> nn.Module:
        """Return the Qwen2.5 decoder."""
        return self.model.model.language_model

    def prompt(self, sample: dict[str, Any]) -> Tokens:
        """Ids and pixels: from the picture's grid `generate` counts where positions go on."""
        input_ids = sample["input_ids"].to(self.device)
        vision, pictures = self.model.config.vision_config, pictures_of(sample)
        grids = [grid_of(picture) for picture in pictures]
        pixels = [
            checked_pixels(picture, "Qwen2.5-VL", patches_shape(grid, vision))
            for picture, grid in zip(pictures, grids, strict=True)
        ]
        is_image = input_ids == self.model.config.image_token_id
        sizes = [(int(rows), int(columns)) for rows, columns in torch.cat(grids)[:, 1:] // vision.spatial_merge_size]
        mask_ids = sample["mask_ids"].to(self.device).masked_fill(is_image, NO_PHRASE)
        inputs = {
            "input_ids": input_ids[None],
            "mm_token_type_ids": is_image[None].long(),  # without them transformers counts as for a text
            "pixel_values": torch.cat(pixels).to(self.device),
            "image_grid_thw": torch.cat(grids).to(self.device),
        }
        return Tokens(inputs, mask_ids, image_views(is_image, sizes))

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Put the image features in the places of the image tokens."""
        lmm, prompt = self.model.model, self.prompt(sample)
        input_ids, types, grid = (prompt.inputs[key] for key in ("input_ids", "mm_token_type_ids", "image_grid_thw"))
        embeds = lmm.get_input_embeddings()(input_ids)
        features = torch.cat(lmm.get_image_features(prompt.inputs["pixel_values"], grid).pooler_output)
        embeds[0, torch.cat([view.flatten() for view in prompt.views])] = features.to(embeds)
        position_ids, _ = lmm.get_rope_index(input_ids, types, image_grid_thw=grid)
        return Tokens({"inputs_embeds": embeds, "position_ids": position_ids}, prompt.mask_ids, prompt.views)


def grid_of(sample: dict[str, Any]) -> Tensor:
    """[1, 3]: frames (1), rows and columns of patches; ValueError for a sample of another model's processor."""
    if "image_grid_thw" not in sample:
        raise ValueError(
            f"the sample has {sorted(sample)}, but no image_grid_thw, which says how the picture's patches lie: use "
            "CustomQwenImageProcessor as image_processor"
        )
    return sample["image_grid_thw"].view(-1, 3)


def patches_shape(grid: Tensor, vision: Any) -> tuple[int, int]:
    """Return the shape of a picture's `pixel_values`: a row of pixels per patch."""
    return int(grid.prod()), vision.in_channels * vision.temporal_patch_size * vision.patch_size**2


def check_image_token(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer whose image token is not the one that the LMM replaces by features."""
    token, expected = "<|image_pad|>", model.config.image_token_id
    if (index := tokenizer.convert_tokens_to_ids(token)) != expected:
        raise ValueError(
            f"the tokenizer reads {token!r} as {index}, but the LMM's image token is {expected}: name the tokenizer of "
            "the repository that the LMM comes from"
        )


class FrozenQwen(FrozenLMM):
    """Predict coarse masks from a frozen Qwen2.5-VL.

    Args:
        model: CustomQwenForConditionalGeneration (or transformers' own class) or its config.
        tokenizer: Tokenizer or its config; if given, its image token is compared with the model's.
        processor: Qwen2_5_VLProcessor or its config, another way to give the tokenizer.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, tokenizer: Any = None, processor: Any = None, **head: Any):
        lmm = build(model)
        if (tokenizer := build(processor).tokenizer if processor is not None else build(tokenizer)) is not None:
            check_image_token(lmm, tokenizer)
        super().__init__(backbone=QwenBackbone(lmm), **head)


class FrozenQwenSAM(RequireSAM, FrozenQwen):
    """Predict coarse masks from a frozen Qwen2.5-VL and refine them by SAM."""
