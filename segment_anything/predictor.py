"""Encode an image once, then ask for masks of as many prompts as wanted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .modeling import Sam
from .utils.transforms import ResizeLongestSide


class SamPredictor:
    """Masks of one image for points, boxes, masks and text.

    Args:
        sam_model: the model, on the device and in the dtype it shall run.
    """

    def __init__(self, sam_model: Sam) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_encoder.img_size)
        self.reset_image()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def reset_image(self) -> None:
        """Forget the image."""
        self.is_image_set = False
        self.features: Tensor | None = None
        self.original_size: tuple[int, int] | None = None
        self.input_size: tuple[int, int] | None = None

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        """Encode an image.

        Args:
            image: uint8 [H, W, 3].
            image_format: order of its channels, "RGB" or "BGR".

        Raises:
            ValueError: if the image or the format is another.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
        pixels = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size and image.shape[2:] == (3,)
        if not pixels:
            found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(
                f"image must be uint8 [H, W, 3], got {found}: read it with np.asarray(Image.open(...).convert('RGB'))"
            )
        if image_format != self.model.image_format:
            image = image[..., ::-1]
        resized = torch.from_numpy(self.transform.apply_image(np.ascontiguousarray(image)).copy())
        self.set_torch_image(resized.permute(2, 0, 1)[None].to(self.device), image.shape[:2])

    @torch.no_grad()
    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, ...]) -> None:
        """Encode an image that is already resized.

        Args:
            transformed_image: [1, 3, H, W], values 0 to 255, in the model's channel order.
            original_image_size: (H, W) before resizing.

        Raises:
            ValueError: if the image has another shape.
        """
        side = self.model.image_encoder.img_size
        shape = tuple(transformed_image.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != side:
            raise ValueError(f"image must be [1, 3, H, W] with a longest side of {side}, got {list(shape)}")
        self.reset_image()
        self.original_size = (int(original_image_size[0]), int(original_image_size[1]))
        self.input_size = (shape[2], shape[3])
        self.features = self.model.image_encoder(self.model.preprocess(transformed_image))
        self.is_image_set = True

    def get_image_embedding(self) -> Tensor:
        """The embedding [1, C, h, w] of the image.

        Raises:
            RuntimeError: if no image is set.
        """
        if self.features is None:
            raise RuntimeError("no image is set: call set_image(...) first")
        return self.features

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the masks of one prompt, given in pixels of the original image.

        Args:
            point_coords: [N, 2] (x, y).
            point_labels: [N], 1 foreground, 0 background; ignored without points.
            box: [4] xyxy.
            mask_input: logits [1, *mask_input_size], for instance those of an earlier call.
            multimask_output: give the candidates instead of one mask.
            return_logits: give logits instead of bool masks.

        Returns:
            Masks [K, H, W] at the original size, predicted IoUs [K], and logits [K, *mask_input_size].

        Raises:
            ValueError: if points come without labels, or several boxes.
            RuntimeError: if no image is set.
        """
        self.get_image_embedding()
        if point_coords is not None and point_labels is None:
            raise ValueError("point_coords need point_labels, one label per point")
        if box is not None and np.size(box) != 4:
            raise ValueError(
                f"box is {list(np.shape(box))}: give one of four numbers, or several to predict_torch: here only the "
                "first would be used"
            )
        coords = labels = boxes = None
        if point_coords is not None:
            coords = self._tensor(self.transform.apply_coords(point_coords, self.original_size))[None]
            labels = torch.as_tensor(point_labels, dtype=torch.int, device=self.device)[None]
        if box is not None:
            boxes = self._tensor(self.transform.apply_boxes(box, self.original_size))
        mask = None if mask_input is None else self._tensor(mask_input)[None]
        outputs = self.predict_torch(coords, labels, boxes, mask, multimask_output, return_logits)
        masks, iou, low_res = (x[0].cpu() for x in outputs)
        return (
            (masks.float() if return_logits else masks).numpy(),
            iou.float().numpy(),
            low_res.float().numpy(),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        text_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the masks of B prompts, given in pixels of the resized image (see `transform`).

        Args:
            point_coords: [B, N, 2] (x, y).
            point_labels: [B, N], 1 foreground, 0 background, -1 no point.
            boxes: [B, 4] xyxy.
            mask_input: logits [B, 1, *mask_input_size], or one for all prompts.
            multimask_output: give the candidates instead of one mask per prompt.
            return_logits: give logits instead of bool masks.
            text_embeds: text tokens [B, T, embed_dim].

        Returns:
            Masks [B, K, H, W] at the original size, predicted IoUs [B, K], logits [B, K, *mask_input_size].

        Raises:
            RuntimeError: if no image is set.
        """
        low_res, iou = self.decode(point_coords, point_labels, boxes, mask_input, multimask_output, text_embeds)
        masks = self.model.postprocess_masks(low_res, self.input_size, self.original_size)
        return (masks if return_logits else masks > self.model.mask_threshold), iou, low_res

    @torch.no_grad()
    def decode(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        text_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `predict_torch`, but only the logits [B, K, *mask_input_size] and the predicted IoUs [B, K]."""
        points = None if point_coords is None else (point_coords, point_labels)
        sparse, dense = self.model.prompt_encoder(points, boxes, mask_input, text_embeds)
        image_pe = self.model.prompt_encoder.get_dense_pe()
        return self.model.mask_decoder(self.get_image_embedding(), image_pe, sparse, dense, multimask_output)
