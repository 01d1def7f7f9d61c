"""The picture of a sample, checked before an LMM reads it."""

from typing import Any

from torch import Tensor


def checked_pixels(sample: dict[str, Any], lmm: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """`pixel_values` of a sample.

    Towers do not always notice pictures of another size, and what they say when they do names no cure.

    Args:
        sample: A sample.
        lmm: What the message calls the LMM.
        shape: What `pixel_values` must be; None when the LMM checks it itself.

    Raises:
        ValueError: When another model's image processor made them.
    """
    pixels = sample["pixel_values"]
    found = list(pixels.shape) if isinstance(pixels, Tensor) else f"a {type(pixels).__name__}"
    if not isinstance(pixels, Tensor) or (shape is not None and pixels.shape != shape):
        needed = f"{list(shape)}" if shape is not None else "a tensor"
        raise ValueError(
            f"pixel_values is {found}, but {lmm} reads {needed}: use the image processor that belongs to this LMM, as "
            "its config does (image2tensor is False for MGM only)"
        )
    return pixels
