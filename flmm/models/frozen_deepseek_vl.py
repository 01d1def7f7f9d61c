"""DeepSeek-VL: a padded square picture becomes 24 x 24 tokens, whichever towers saw it."""

from typing import Any

import torch
from torch import nn

from flmm.constants import NO_PHRASE
from flmm.models.backbone import Backbone, Tokens, checked_pixels, image_views, pictures_of
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build

IMAGE_TOKEN = "<image_placeholder>"


class DeepseekVLBackbone(Backbone):
    """Read samples with DeepSeek-VL.

    Args:
        model: MultiModalityCausalLM.
        image_token_id: Id of the placeholder; the prompt holds one per image feature.
    """

    def __init__(self, model: nn.Module, image_token_id: int):
        super().__init__(model)
        self.image_token_id = image_token_id

    @property
    def decoder(self) -> nn.Module:
        """Return the Llama decoder."""
        return self.model.model.language_model

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Put the image features in the places of the placeholders."""
        vision = self.model.config.vision_config
        side = vision.image_size // vision.patch_size
        size = getattr(self.model.config, "high_res_vision_config", vision).image_size  # of the finer tower, if two
        pixels = [checked_pixels(picture, "DeepSeek-VL", (3, size, size)) for picture in pictures_of(sample)]
        input_ids = sample["input_ids"].to(self.device)
        is_image = input_ids == self.image_token_id
        views = image_views(is_image, [(side, side)] * len(pixels))
        embeds = self.model.get_input_embeddings()(input_ids)
        embeds[is_image] = self.model.image_features(torch.stack(pixels)).flatten(0, 1).to(embeds)
        mask_ids = sample["mask_ids"].to(self.device).masked_fill(is_image, NO_PHRASE)
        return Tokens({"inputs_embeds": embeds[None]}, mask_ids, views)


def placeholder_id(tokenizer: Any) -> int:
    """Return the id of the image placeholder; ValueError for a tokenizer without it."""
    index = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if index is None or index == tokenizer.unk_token_id:
        raise ValueError(f"the tokenizer has no {IMAGE_TOKEN!r}: name the tokenizer of the DeepSeek-VL repository")
    return index


class FrozenDeepseekVL(FrozenLMM):
    """Predict coarse masks from a frozen DeepSeek-VL.

    Args:
        model: MultiModalityCausalLM or its config.
        tokenizer: Its tokenizer or config.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, tokenizer: Any, **head: Any):
        super().__init__(backbone=DeepseekVLBackbone(build(model), placeholder_id(build(tokenizer))), **head)


class FrozenDeepseekVLSAM(RequireSAM, FrozenDeepseekVL):
    """Predict coarse masks from a frozen DeepSeek-VL and refine them by SAM."""
