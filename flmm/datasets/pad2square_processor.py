"""Image processor of MiniGemini (MGM): the towers of the model resize and normalize later."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from flmm.datasets.padding import pad_to_square, rgb_arrays


class Pad2Square:
    """Pad a picture to a square at its own resolution; `pixel_values` are PIL images.

    Data sets need `image2tensor=False` with it.

    Args:
        image_mean: RGB color of the padding, 0 to 255; the default is the mean color of CLIP.
    """

    def __init__(self, image_mean: Sequence[int] = (122, 116, 104)) -> None:
        self.image_mean = tuple(int(value) for value in image_mean)

    def preprocess(self, images) -> dict[str, list[Any]]:
        """One image or a list: lists `pixel_values` (PIL), `image_sizes` (height, width), `meta_datas`."""
        arrays = rgb_arrays(images)
        padded = [pad_to_square(array, self.image_mean) for array in arrays]
        return {
            "pixel_values": [Image.fromarray(array) for array, _ in padded],
            "image_sizes": [array.shape[:2] for array in arrays],
            "meta_datas": [meta for _, meta in padded],
        }
