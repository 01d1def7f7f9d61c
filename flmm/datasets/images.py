"""Reading pictures, in the orientation that their masks or their viewer expect."""

import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import get
from PIL import Image, ImageOps


def read_image(path: str | Path, backend_args: Mapping[str, Any] | None = None) -> Image.Image:
    """Read and decode a picture; its mode and orientation stay as stored.

    Args:
        path: File, or whatever the mmengine file backend understands.
        backend_args: Keywords of an mmengine file backend. A petrel backend is left out when its client is
            not installed: configs made for a petrel cluster name local paths as well.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a picture, or truncated.
    """
    try:
        image = Image.open(io.BytesIO(get(str(path), backend_args=usable_backend(backend_args))))
        image.load()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no image {path}: run `flmm data check` to see what is missing and its source"
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to decode safely: {error}") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be decoded ({error}): the file is damaged or cut, fetch it again") from error
    return image


def usable_backend(backend_args: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The backend arguments, or none when they ask for petrel and its client is not installed."""
    petrel = backend_args is not None and backend_args.get("backend") == "petrel"
    if backend_args is None or (petrel and find_spec("petrel_client") is None):
        return None
    return dict(backend_args)


def load_image(path: str | Path) -> Image.Image:
    """A user's picture as RGB, upright as its EXIF orientation says. Same errors as `read_image`."""
    image = ImageOps.exif_transpose(read_image(path))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{path}: its pixels are 32-bit numbers (mode {image.mode}) of no known range: save it in 8 bits"
        )
    if image.mode.startswith("I;16"):  # PIL cuts 16-bit greys at 255: nearly all would turn white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def as_annotated(image: Image.Image, size: tuple[int, int], source: str) -> Image.Image:
    """The picture in the orientation its masks were drawn in: as stored, else as its EXIF entry turns it.

    Args:
        image: Picture as stored.
        size: (height, width) as annotated.
        source: Names the picture in errors.

    Raises:
        ValueError: It fits neither.
    """
    if (image.height, image.width) == tuple(size):
        return image
    upright = ImageOps.exif_transpose(image)
    if (upright.height, upright.width) == tuple(size):
        return upright
    raise ValueError(
        f"{source}: the image is {image.height} x {image.width} (height x width) but its masks are "
        f"{size[0]} x {size[1]}: they belong to different pictures, or one of them was resized"
    )
