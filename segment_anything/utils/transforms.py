"""Resize images, points and boxes so that the longest side of the image is the model's."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


class ResizeLongestSide:
    """Resize to a longest side of `target_length` pixels (`sam.image_encoder.img_size`)."""

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize a uint8 image [H, W, 3] with Pillow's bilinear filter, which does not alias."""
        height, width = self._target(image.shape[:2])
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize images [B, C, H, W] on their device; `apply_image` without the rounding to whole numbers."""
        return functional.interpolate(
            image.float(),
            self._target(image.shape[-2:]),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )

    def apply_coords(self, coords: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """Bring points [..., 2] (x, y) of an image of `original_size` (H, W) to the resized image."""
        return np.asarray(coords, dtype=float) * self._scale(original_size)

    def apply_boxes(self, boxes: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """Bring boxes xyxy [B, 4] of an image of `original_size` (H, W) to the resized image."""
        return self.apply_coords(np.reshape(boxes, (-1, 2, 2)), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """As `apply_coords`, in float32 on the tensor's device."""
        # in float64 and rounded once, as `apply_coords`: the position encoding amplifies a last digit
        scale = torch.tensor(self._scale(original_size), dtype=torch.float64, device=coords.device)
        return (coords.double() * scale).float()

    def apply_boxes_torch(self, boxes: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """As `apply_boxes`, in float32 on the tensor's device."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """The resized (H, W): the longest side as asked, the other rounded half up, at least one pixel."""
        scale = long_side_length / max(oldh, oldw)
        return max(1, int(oldh * scale + 0.5)), max(1, int(oldw * scale + 0.5))

    def _target(self, size: tuple[int, ...]) -> tuple[int, int]:
        return self.get_preprocess_shape(size[0], size[1], self.target_length)

    def _scale(self, original_size: tuple[int, ...]) -> tuple[float, float]:
        """How much (x, y) grow; not quite equal, because the sides are rounded."""
        height, width = self._target(original_size)
        return width / original_size[1], height / original_size[0]
