"""Image processor of Qwen2-VL and Qwen2.5-VL: native resolution, no padding."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import Qwen2VLImageProcessorPil
from transformers.image_processing_utils import BatchFeature

from flmm.datasets.padding import LAST, meta_data, rgb_arrays

MAX_ASPECT = 200  # transformers refuses pictures that are longer


class CustomQwenImageProcessor(Qwen2VLImageProcessorPil):
    """Qwen's processor (the slow one: the fast one gives other grey levels), one grid per picture.

    Loads Qwen's `preprocessor_config.json`; `min_pixels` and `max_pixels` bound the resized picture.
    """

    def preprocess(self, images: Any) -> BatchFeature:  # type: ignore[override]
        """One image or a list of them.

        Returns:
            Lists with one entry per image: `pixel_values` [patches, 3·2·14·14], `image_grid_thw` [1, 3] (frames,
            rows, columns of patches), `image_sizes` (height, width) as given, `meta_datas`.

        Raises:
            ValueError: For a picture that is over 200 times longer than wide, or wider than long.
        """
        arrays = rgb_arrays(images)
        for array in arrays:
            check_aspect(*array.shape[:2])
        # one at a time: transformers gives all pictures of a call the size of the first
        outputs = [
            super(CustomQwenImageProcessor, self).preprocess(array, return_tensors="pt", input_data_format=LAST)
            for array in arrays
        ]
        grids = [output["image_grid_thw"] for output in outputs]
        shapes = [tuple((grid[0, 1:] * self.patch_size).tolist()) for grid in grids]
        data = {
            "pixel_values": [output["pixel_values"] for output in outputs],
            "image_grid_thw": grids,
            "image_sizes": [array.shape[:2] for array in arrays],
            "meta_datas": [meta_data(shape, shape, (0, 0)) for shape in shapes],
        }
        return BatchFeature(data=data)

    def image_tokens(self, processed: Mapping[str, Any]) -> int:
        """How many tokens the picture of `processed` takes in the text."""
        grid: torch.Tensor = processed["image_grid_thw"]
        return int(grid.prod()) // self.merge_size**2


def check_aspect(height: int, width: int) -> None:
    """Refuses a picture that Qwen's resizing cannot keep in proportion."""
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"picture of {height} x {width} pixels: Qwen reads pictures of at most {MAX_ASPECT}:1. Crop it"
        )
