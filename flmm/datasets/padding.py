"""What the image processors share: RGB arrays, padding, and the meta data of where a picture lies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_utils import BatchFeature
from transformers.image_transforms import normalize, rescale, resize
from transformers.image_utils import ChannelDimension, make_flat_list_of_images, to_numpy_array

from flmm.datasets.images import as_rgb

LAST = ChannelDimension.LAST
Size = tuple[int, int]


def rgb_arrays(images: Any) -> list[np.ndarray]:
    """One image or a list of them (PIL of any mode, or arrays, see `as_rgb`) as uint8 [H, W, 3] arrays."""
    return [np.array(picture) for picture in rgb_pictures(images)]


def rgb_pictures(images: Any) -> list[Image.Image]:
    """One image or a list of them as RGB pictures; transparency that is left is dropped, as the reference does it."""
    flat: list[Any] = make_flat_list_of_images(images)  # type: ignore[assignment]
    return [as_rgb(_opaque(image) if isinstance(image, Image.Image) else to_numpy_array(image)) for image in flat]


def _opaque(image: Image.Image) -> Image.Image:
    drops = image.has_transparency_data and not image.mode.startswith("I;16")
    return image.convert("RGB") if drops else image


def scaled(length: int, numerator: int, denominator: int) -> int:
    """`length` scaled and cut to an integer, as the released heads were trained; at least one pixel."""
    return max(1, int(length * numerator / denominator))


def meta_data(image_shape: Size, padded_shape: Size, before: Size) -> dict[str, dict[str, int]]:
    """Where the resized picture lies in its padded frame, as the models' un-padding reads it.

    Args:
        image_shape: (height, width) of the resized picture.
        padded_shape: (height, width) of the frame.
        before: (rows, columns) of padding above and left of the picture.
    """
    after = [p - b - s for p, b, s in zip(padded_shape, before, image_shape, strict=True)]
    return {
        "padding": {
            "before_height": before[0],
            "after_height": after[0],
            "before_width": before[1],
            "after_width": after[1],
        },
        "image_shape": {"height": image_shape[0], "width": image_shape[1]},
        "padded_shape": {"height": padded_shape[0], "width": padded_shape[1]},
    }


def pad_centred(image: np.ndarray, padded_shape: Size, colour: Sequence[int]) -> tuple[np.ndarray, dict[str, Any]]:
    """Put [h, w, 3] in the middle of a one-coloured frame (odd pixel below or right), with meta data."""
    height, width = image.shape[:2]
    top, left = (padded_shape[0] - height) // 2, (padded_shape[1] - width) // 2
    frame = np.empty((*padded_shape, 3), dtype=image.dtype)
    frame[:] = np.asarray(colour, dtype=image.dtype)
    frame[top : top + height, left : left + width] = image
    return frame, meta_data((height, width), padded_shape, (top, left))


def pad_to_square(image: np.ndarray, colour: Sequence[int]) -> tuple[np.ndarray, dict[str, Any]]:
    """`pad_centred` to a square of the longer side."""
    side = max(image.shape[:2])
    return pad_centred(image, (side, side), colour)


def resize_and_pad(processor, images) -> BatchFeature:
    """Resize pictures to `processor.output_size(height, width)`, pad them to squares with the mean colour.

    Args:
        processor: A Hugging Face image processor with that method.
        images: One image or a list of them.

    Returns:
        Lists with one entry per image: `pixel_values` [3, s, s] float32, `image_sizes` (height, width) as
        given, `meta_datas` (see `meta_data`).
    """
    arrays = rgb_arrays(images)
    colour = [int(255 * mean) for mean in processor.image_mean]
    padded = [pad_to_square(_resized(processor, array), colour) for array in arrays]
    data = {
        "pixel_values": [normalised(processor, array) for array, _ in padded],
        "image_sizes": [array.shape[:2] for array in arrays],
        "meta_datas": [meta for _, meta in padded],
    }
    return BatchFeature(data=data)


def _resized(processor, array: np.ndarray) -> np.ndarray:
    if not processor.do_resize:
        return array
    size = processor.output_size(*array.shape[:2])
    return resize(array, size, resample=processor.resample, input_data_format=LAST)


def normalised(processor, image: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] -> float32 [3, h, w], rescaled and normalised as the Hugging Face processor is set."""
    if processor.do_rescale:
        image = rescale(image, processor.rescale_factor, input_data_format=LAST)
    if processor.do_normalize:
        image = normalize(image, processor.image_mean, processor.image_std, input_data_format=LAST)
    return np.ascontiguousarray(image.transpose(2, 0, 1))
