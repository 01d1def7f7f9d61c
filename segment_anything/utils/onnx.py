"""The part of SAM after the image encoder as one traceable module, for export to ONNX."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..modeling import Sam
from .amg import calculate_stability_score


class SamOnnxModel(nn.Module):
    """Prompts and an image embedding to masks, with inputs of fixed meaning and free sizes.

    Args:
        model: the SAM whose weights are used.
        return_single_mask: choose one mask, see `select_masks`.
        use_stability_score: give stability scores in place of predicted IoUs.
        return_extra_metrics: also give stability and area of the final masks.
    """

    def __init__(
        self,
        model: Sam,
        return_single_mask: bool,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
    ) -> None:
        super().__init__()
        self.mask_decoder = model.mask_decoder
        self.model = model
        self.img_size = model.image_encoder.img_size
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.stability_score_offset = 1.0
        self.return_extra_metrics = return_extra_metrics

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """Predict masks.

        Args:
            image_embeddings: [1, C, h, w].
            point_coords: [1, N, 2] (x, y) in pixels of the resized image.
            point_labels: [1, N]: 1 foreground, 0 background, 2 and 3 the corners of a box, -1 no point;
                without a box, one such no-point must be the last.
            mask_input: logits [1, 1, 4h, 4w], ignored unless `has_mask_input`.
            has_mask_input: [1], 1 or 0.
            orig_im_size: [2], (H, W) of the original image.

        Returns:
            Logits [1, K, H, W], scores [1, K] and logits [1, K, 4h, 4w]; with extra metrics, stability [1, K]
            and areas [1, K] before the last.
        """
        masks, scores = self.model.mask_decoder.predict_masks(
            image_embeddings,
            self.model.prompt_encoder.get_dense_pe(),
            self._embed_points(point_coords, point_labels),
            self._embed_masks(mask_input, has_mask_input),
        )
        if self.use_stability_score:
            scores = self._stability(masks)
        if self.return_single_mask:
            masks, scores = self.select_masks(masks, scores, point_coords.shape[1])
        upscaled = self.mask_postprocessing(masks, orig_im_size)
        if not self.return_extra_metrics:
            return upscaled, scores, masks
        areas = (upscaled > self.model.mask_threshold).sum((-2, -1))
        return upscaled, scores, self._stability(upscaled), areas, masks

    def _stability(self, masks: Tensor) -> Tensor:
        return calculate_stability_score(masks, self.model.mask_threshold, self.stability_score_offset)

    def _embed_points(self, point_coords: Tensor, point_labels: Tensor) -> Tensor:
        encoder = self.model.prompt_encoder
        position = encoder.pe_layer.forward_with_coords(point_coords.float() + 0.5, encoder.input_image_size)
        labels = point_labels.unsqueeze(-1)
        embedded = torch.where(labels == -1, encoder.not_a_point_embed.weight, position.to(encoder.dtype))
        for label, embedding in enumerate(encoder.point_embeddings):
            embedded = embedded + embedding.weight * (labels == label)
        return embedded

    def _embed_masks(self, input_mask: Tensor, has_mask_input: Tensor) -> Tensor:
        encoder = self.model.prompt_encoder
        without = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        return torch.where(has_mask_input.view(-1, 1, 1, 1) > 0, encoder.mask_downscaling(input_mask), without)

    def select_masks(self, masks: Tensor, iou_preds: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
        """Choose one mask per prompt without control flow: mask 0 from three points on, else the best."""
        first = torch.arange(iou_preds.shape[1], device=iou_preds.device) == 0
        # the final no-point counts: 2.5 divides one click from several
        best = (iou_preds + (num_points - 2.5) * 1000.0 * first).argmax(dim=1)
        rows = torch.arange(masks.shape[0], device=masks.device)
        return masks[rows, best].unsqueeze(1), iou_preds[rows, best].unsqueeze(1)

    def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
        """Bring logits [1, K, 4h, 4w] to the original image; as `Sam.postprocess_masks`, but traceable."""
        masks = functional.interpolate(masks, (self.img_size, self.img_size), mode="bilinear", align_corners=False)
        resized = self.resize_longest_image_size(orig_im_size, self.img_size)
        masks = masks[..., : resized[0], : resized[1]]
        size = orig_im_size.to(torch.int64)
        return functional.interpolate(masks, (size[0], size[1]), mode="bilinear", align_corners=False)

    @staticmethod
    def resize_longest_image_size(input_image_size: Tensor, longest_side: int) -> Tensor:
        """Tensor form of `ResizeLongestSide.get_preprocess_shape`: int64 [2]."""
        size = input_image_size.to(torch.float32)
        return torch.floor(size * (longest_side / size.max()) + 0.5).clamp(min=1).to(torch.int64)
