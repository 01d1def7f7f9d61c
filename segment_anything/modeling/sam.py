"""SAM as a whole: image encoder, prompt encoder and mask decoder (arXiv 2304.02643)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .mask_decoder import MaskDecoder
from .prompt_encoder import PromptEncoder


class Sam(nn.Module):
    """Segment what prompts point at.

    Args:
        image_encoder: [B, 3, img_size, img_size] to [B, C, h, w]; has the attribute `img_size`.
        prompt_encoder: prompts to sparse and dense embeddings.
        mask_decoder: embeddings to mask logits.
        pixel_mean: mean of the RGB values, 0 to 255.
        pixel_std: their standard deviation.
    """

    mask_threshold: float = 0.0
    image_format: str = "RGB"

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        pixel_mean: list[float] | tuple[float, ...] = (123.675, 116.28, 103.53),
        pixel_std: list[float] | tuple[float, ...] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the image encoder, which `preprocess` gives."""
        return next(self.image_encoder.parameters()).dtype

    @torch.no_grad()
    def forward(self, batched_input: list[dict[str, Any]], multimask_output: bool) -> list[dict[str, Tensor]]:
        """Segment a batch of images, each with its own prompts.

        Args:
            batched_input: per image a dict of `image` [3, H, W] (RGB 0 to 255, longest side `img_size`),
                `original_size` (H, W) before that resizing, and optionally `point_coords` [B, N, 2] with
                `point_labels` [B, N], `boxes` [B, 4], `mask_inputs` [B, 1, *mask_input_size],
                `text_embeds` [B, T, embed_dim].
            multimask_output: give the candidates of every prompt instead of one mask.

        Returns:
            Per image a dict of `masks` (bool [B, K, H, W] at `original_size`), `iou_predictions` [B, K] and
            `low_res_logits` [B, K, 4h, 4w].
        """
        images = torch.stack([self.preprocess(x["image"]) for x in batched_input])
        embeddings = self.image_encoder(images)
        return [
            self._segment(x, embedding[None], multimask_output)
            for x, embedding in zip(batched_input, embeddings, strict=True)
        ]

    def _segment(self, record: dict[str, Any], embedding: Tensor, multimask_output: bool) -> dict[str, Tensor]:
        points = (record["point_coords"], record["point_labels"]) if "point_coords" in record else None
        sparse, dense = self.prompt_encoder(
            points, record.get("boxes"), record.get("mask_inputs"), record.get("text_embeds")
        )
        low_res, iou = self.mask_decoder(embedding, self.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output)
        logits = self.postprocess_masks(low_res, record["image"].shape[-2:], record["original_size"])
        return {"masks": logits > self.mask_threshold, "iou_predictions": iou, "low_res_logits": low_res}

    def postprocess_masks(self, masks: Tensor, input_size: tuple[int, ...], original_size: tuple[int, ...]) -> Tensor:
        """Bring mask logits back to the original image.

        Args:
            masks: logits [B, K, 4h, 4w] of the padded image.
            input_size: (H, W) of the resized image before padding.
            original_size: (H, W) before resizing.

        Returns:
            Logits [B, K, *original_size].
        """
        side = self.image_encoder.img_size
        masks = functional.interpolate(masks, (side, side), mode="bilinear", align_corners=False)
        masks = masks[..., : input_size[0], : input_size[1]]
        return functional.interpolate(masks, tuple(original_size), mode="bilinear", align_corners=False)

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise an RGB image of values 0 to 255 and pad it at the bottom and the right with zeros.

        Args:
            x: [3, H, W] or [B, 3, H, W], at most `img_size` high and wide, any dtype.

        Returns:
            [..., img_size, img_size] in the model's dtype.

        Raises:
            ValueError: if the image is larger than `img_size`.
        """
        side = self.image_encoder.img_size
        height, width = x.shape[-2:]
        if max(height, width) > side:
            raise ValueError(
                f"image of {height} x {width} pixels does not fit in {side} x {side}: "
                f"resize it with ResizeLongestSide({side})"
            )
        normalised = ((x - self.pixel_mean) / self.pixel_std).to(self.dtype)
        return functional.pad(normalised, (0, side - width, 0, side - height))
