"""Pictures that strangers send: checked before they are decoded, and never written to a file."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import Any

from PIL import Image

from flmm.api import as_picture, bounded
from flmm.web.limits import Limits, RefusedError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def picture_of_bytes(content: bytes, limits: Limits) -> Image.Image:
    """A picture of bytes: upright, RGB, at most `flmm.api.MAX_SIDE` pixels along its longer side.

    Of an animated picture it is the first frame. 16-bit and CMYK pictures become 8-bit RGB.

    Raises:
        RefusedError: For too many bytes or pixels, another format, damage.
    """
    megabytes = len(content) / 2**20
    if megabytes > limits.upload_megabytes:
        raise RefusedError("large_file", count=f"{megabytes:.1f}", most=f"{limits.upload_megabytes:g}")
    image = _opened(content)
    megapixels = image.width * image.height / 1e6
    if megapixels > limits.megapixels:
        raise RefusedError("large_picture", count=f"{megapixels:.0f}", most=f"{limits.megapixels:g}")
    if image.mode in ("I", "F"):
        raise RefusedError("wide_pixels")
    try:
        return bounded(as_picture(image))
    except ValueError as error:  # also what Pillow says about damage, as `as_picture` passes it on
        raise RefusedError("damaged_picture") from error


def _opened(content: bytes) -> Image.Image:
    """The picture with its header read and not a pixel decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit of pixels is ours
            return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise RefusedError("bomb") from error
    except Exception as error:  # whatever a decoder meets in bytes that a stranger wrote
        raise RefusedError("no_picture", formats=", ".join(FORMATS)) from error


def picture_of_url(text: Any, limits: Limits) -> Image.Image:
    """A picture of a `data:` URL, as the page sends it. Addresses of other kinds are never fetched."""
    head, _, body = text.partition(",") if isinstance(text, str) else ("", "", "")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise RefusedError("no_picture", formats=", ".join(FORMATS))
    try:
        content = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("no_picture", formats=", ".join(FORMATS)) from error
    return picture_of_bytes(content, limits)
