"""The one way to read a picture: from a file, a PIL picture or an array to upright RGB."""

import io
import os
import struct
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from mmengine.fileio import get
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

from flmm.paths import locate

LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")  # formats that change values
ImageSource = str | os.PathLike | Image.Image | np.ndarray

# Pillow's decoders and its reader of EXIF data meet damaged bytes with any of these.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def as_picture(image: ImageSource) -> Image.Image:
    """Make an upright RGB picture of a file, a PIL picture or an array.

    16-bit pictures are scaled to 8 bits. What is transparent is laid on white. It shares no pixels with what was given,
    which may be drawn upon later.

    Args:
        image: File, turned as its EXIF orientation says; PIL picture of any mode, likewise; or array [H, W], [H, W, 1],
            [H, W, 3] or [H, W, 4] (the last is opacity) of uint8 or uint16.

    Raises:
        FileNotFoundError: No such file; says where it was looked for.
        ValueError: Not a picture, truncated, or pixels of no known range.
    """
    if isinstance(image, str | os.PathLike):
        try:
            return load_image(image)
        except FileNotFoundError as error:
            raise FileNotFoundError(_not_found(str(image))) from error
    if isinstance(image, np.ndarray):
        return as_rgb(image).copy()
    if isinstance(image, Image.Image):
        source = str(getattr(image, "filename", "") or "the picture")
        return as_rgb(upright(_decoded(image, source)), source).copy()
    raise ValueError(
        f"{type(image).__module__}.{type(image).__qualname__} is no picture: give a file, a PIL picture, or an array "
        "[H, W, 3] of uint8"
    )


def _not_found(path: str) -> str:
    """Say where a user's picture was looked for, and where it is when the repository has it."""
    looked = f"no picture {path}" if os.path.isabs(path) else f"no picture {path} in {os.getcwd()}"
    if (known := locate(path)) != path:
        return f"{looked}: name {known}, which is in the repository"
    made = "`flmm data shapes` makes these pictures" if path.startswith("data/shapes/") else "check its path"
    return f"{looked}: {made}"


def _decoded(image: Image.Image, source: str) -> Image.Image:
    """Decode now what `Image.open` put off, so that damage is noticed here."""
    try:
        image.load()
    except DAMAGED as error:
        raise ValueError(f"{source} cannot be decoded ({error}): its file is damaged, cut or closed") from error
    return image


def load_image(path: str | os.PathLike) -> Image.Image:
    """Read a user's picture as RGB, upright as its EXIF orientation says. Same errors as `read_image`."""
    return as_rgb(upright(read_image(path)), str(path))


def read_image(path: str | os.PathLike, backend_args: Mapping[str, Any] | None = None) -> Image.Image:
    """Read and decode a picture; its mode and orientation stay as stored.

    Args:
        path: File, or whatever the mmengine file backend understands.
        backend_args: Keywords of an mmengine file backend. A petrel backend is left out when its client is
            not installed: configs made for a petrel cluster name local paths as well.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a picture, truncated, or it cannot be fetched.
    """
    content = _content(str(path), usable_backend(backend_args))
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to decode safely: {error}") from error
    except DAMAGED as error:
        said = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # which would name an object
        raise ValueError(f"{path} {_fault(content)}{said}") from error
    return image


def _content(path: str, backend: dict[str, Any] | None) -> bytes:
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name a picture in it")
    try:
        return get(path, backend_args=backend)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no image {path}: run `flmm data check` to see what is missing and its source"
        ) from error
    except (OSError, KeyError, ImportError) as error:  # of mmengine, for storage that it or this machine lacks
        advice = "download it and name the file" if "://" in path else "make it readable"
        raise ValueError(f"{path} cannot be read ({error}): {advice}") from error


def _fault(content: bytes) -> str:
    """Say why bytes are no picture, as far as their beginning tells."""
    head = content[:512].lstrip().lower()
    if not content:
        return "is an empty file: fetch it again"
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")):
        return "is a text or web page, no picture: the download failed, or it is a drawing to be saved as PNG"
    if content[4:8] == b"ftyp":
        return "is a HEIC picture or a film, which cannot be read: save it as JPEG or PNG"
    try:
        Image.open(io.BytesIO(content))
    except DAMAGED:
        return f"is no picture of a known format (it begins with {content[:8]!r}): save it as JPEG or PNG"
    return "cannot be decoded: the file is damaged or cut, fetch it again"


def usable_backend(backend_args: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the backend arguments, or none when they ask for petrel and its client is not installed."""
    petrel = backend_args is not None and backend_args.get("backend") == "petrel"
    if backend_args is None or (petrel and find_spec("petrel_client") is None):
        return None
    return dict(backend_args)


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says; damaged EXIF data are passed over, as viewers do."""
    turn = _turn(image)
    return image if turn is None else _without_turn(image.transpose(turn))


def _turn(image: Image.Image) -> Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DAMAGED:
        return None


def _without_turn(image: Image.Image) -> Image.Image:
    """Forget the orientation of a copy, else the next reader turns it once more."""
    for key in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        image.info.pop(key, None)
    return image


def as_rgb(image: Image.Image | np.ndarray, source: str = "the picture") -> Image.Image:
    """Make RGB of a picture of any mode, or of an array. Same arguments and errors as `convertible`."""
    image = convertible(image, source)
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{source}: a picture of mode {image.mode} cannot be made RGB ({error})") from error


def convertible(image: Image.Image | np.ndarray, source: str = "the picture") -> Image.Image:
    """Make a picture that PIL converts to RGB as a viewer shows it: 8 bits, and what is transparent on white.

    Args:
        image: The picture, which keeps its orientation; returned as it is when PIL does it right.
        source: Names the picture in errors.

    Raises:
        ValueError: For pixels of no known range, or none at all.
    """
    if isinstance(image, np.ndarray):
        image = _of_array(image)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{source}: its pixels are 32-bit numbers (mode {image.mode}) of no known range: save it in 8 bits"
        )
    if 0 in image.size:
        raise ValueError(f"{source} is {image.width} x {image.height} (width x height): it has no pixel")
    if image.mode.startswith("I;16"):
        return _of_grey16(image)
    return _on_white(image, source) if image.has_transparency_data else image


def _on_white(image: Image.Image, source: str) -> Image.Image:
    try:
        layer = image.convert("RGBA")
    except ValueError as error:
        raise ValueError(f"{source}: a picture of mode {image.mode} cannot be made RGB ({error})") from error
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _of_grey16(image: Image.Image) -> Image.Image:
    """PIL cuts 16-bit greys at 255, so nearly all would turn white: keep the upper 8 bits instead."""
    values = np.asarray(image)
    pixels = (values >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        pixels[values == clear] = 255
    return Image.fromarray(pixels)


def _of_array(array: np.ndarray) -> Image.Image:
    """Make a PIL picture of an array of 8 or 16 bits."""
    planes = array[..., None] if array.ndim == 2 else array
    known = planes.ndim == 3 and planes.shape[2] in (1, 3, 4) and array.dtype.kind == "u" and array.dtype.itemsize <= 2
    if not known or 0 in array.shape:
        raise ValueError(
            f"array {array.shape} of {array.dtype}: a picture must be [H, W, 3], [H, W, 4] or [H, W] of uint8 or "
            "uint16; for numbers from 0 to 1 give (255 * array).round().astype('uint8')"
        )
    pixels = planes if array.dtype.itemsize == 1 else (planes >> 8).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def ids_of_rgb(rgb: np.ndarray) -> np.ndarray:
    """Return the ids [H, W] that colors [H, W, 3] stand for in panoptic PNGs: red + 256 green + 65536 blue, int32."""
    return rgb.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)


def check_lossless(image: Image.Image, source: str | os.PathLike) -> None:
    """Refuse a picture of ids or masks in a format that alters values.

    Raises:
        ValueError: It is one.
    """
    if image.format in LOSSY:
        raise ValueError(
            f"{source} is {image.format}, which changes values near every edge, whatever its name: save a mask as PNG, "
            "from the original"
        )


def as_annotated(image: Image.Image, size: tuple[int, int], source: str, as_shown: bool = False) -> Image.Image:
    """Turn a picture to how its masks were drawn, which their size tells; make it `convertible`.

    Args:
        image: Picture as stored.
        size: (height, width) as annotated.
        source: Names the picture in errors.
        as_shown: Where both fit (a turn by half, a square), take it as its EXIF entry says; else as it is stored, which
            COCO's annotations are made for.

    Raises:
        ValueError: It fits neither, or its pixels have no known range.
    """
    pictures = (upright(image), image) if as_shown else (image, upright(image))
    for picture in pictures:
        if (picture.height, picture.width) == tuple(size):
            picture = convertible(picture, source)
            return picture if _turn(picture) is None else _without_turn(picture.copy())
    raise ValueError(
        f"{source}: the image is {image.height} x {image.width} (height x width) but its masks are "
        f"{size[0]} x {size[1]}: they belong to different pictures, or one of them was resized"
    )
