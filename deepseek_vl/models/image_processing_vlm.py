"""DeepSeek-VL's image processor: the whole picture, padded to a square with the mean colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_transforms import normalize, rescale
from transformers.image_utils import ChannelDimension, make_flat_list_of_images, to_numpy_array

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FIRST = ChannelDimension.FIRST


class VLMImageProcessor(BaseImageProcessor):
    """Resizes the longest side to `image_size`, pads to a square, rescales and, if asked, normalizes.

    Loads the `preprocessor_config.json` of `deepseek-ai/...` and that of `deepseek-community/...`. The towers of
    `deepseek-ai/...` normalize by themselves: there `do_normalize` is False and values stay in 0..1.

    Args:
        image_size: Side of the square; for `deepseek-community/...` read from `size` or `high_res_size`.
        min_size: Least length of the shorter side.
        image_mean, image_std: RGB statistics, of 0..1.
        rescale_factor: Factor on pixel values.
        do_normalize: Whether to subtract the mean and divide by the standard deviation.
        size: {"height", "width"} in files of transformers' DeepseekVLImageProcessor.
        high_res_size, high_res_image_mean: The same of its Hybrid class, for the tower that reads more pixels.
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        image_size: int | None = None,
        min_size: int = 14,
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        size: Mapping[str, int] | None = None,
        high_res_size: Mapping[str, int] | None = None,
        high_res_image_mean: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if image_size is None and not (size or high_res_size):
            raise ValueError(
                "VLMImageProcessor needs image_size: is this the preprocessor_config.json of a DeepSeek-VL?"
            )
        self.image_size = image_size or (high_res_size or size or {})["height"]
        self.min_size = min_size
        self.image_mean = list(high_res_image_mean or image_mean)
        self.image_std = list(image_std)
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize and high_res_size is None
        self.background_color = [int(255 * mean) for mean in self.image_mean]

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """One image or a list of them, PIL of any mode or [H, W, 3] arrays.

        Returns:
            `pixel_values` [3, s, s] float32, `image_sizes` (height, width) as given, `meta_datas` (where the picture
            lies in the square), each a list with one entry per image; tensors are stacked for `return_tensors="pt"`.
        """
        pictures = [_as_picture(image) for image in make_flat_list_of_images(images)]
        squares = [self._square(picture) for picture in pictures]
        pixel_values = BatchFeature({"pixel_values": [self._values(s) for s, _ in squares]}, tensor_type=return_tensors)
        meta_datas = [meta for _, meta in squares]
        image_sizes = [(picture.height, picture.width) for picture in pictures]
        return BatchFeature({**pixel_values, "image_sizes": image_sizes, "meta_datas": meta_datas})

    def _square(self, image: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
        side = self.image_size
        width, height = (max(int(length / max(image.size) * side), self.min_size) for length in image.size)
        left, top = (side - width) // 2, (side - height) // 2
        square = Image.new("RGB", (side, side), tuple(self.background_color))
        square.paste(image.resize((width, height), Image.Resampling.BICUBIC).convert("RGB"), (left, top))
        padding = {
            "before_height": top,
            "after_height": side - height - top,
            "before_width": left,
            "after_width": side - width - left,
        }
        image_shape, padded_shape = {"height": height, "width": width}, {"height": side, "width": side}
        return square, {"padding": padding, "image_shape": image_shape, "padded_shape": padded_shape}

    def _values(self, square: Image.Image) -> np.ndarray:
        values = rescale(np.asarray(square).transpose(2, 0, 1), self.rescale_factor, input_data_format=FIRST)
        if self.do_normalize:
            values = normalize(values, self.image_mean, self.image_std, input_data_format=FIRST)
        return values


def _as_picture(image: Any) -> Image.Image:
    """A picture in RGB, or RGBA: the released models saw those resized before their alpha was dropped."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(to_numpy_array(image))
    return picture if picture.mode == "RGBA" else picture.convert("RGB")
