"""Any processor of transformers' image-text models as an image processor of our data sets."""

import inspect
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import isqrt
from typing import Any

from transformers import AutoProcessor
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import select_best_resolution
from transformers.image_utils import ChannelDimension

from flmm.datasets.padding import Size, meta_data, rgb_pictures

_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")
_LEGACY = "return_legacy_image_output"
Layout = Callable[[Any, Size, Mapping[str, Any]], Size]


class HFImageProcessor:
    """Lets the model's own processor prepare the picture and write the tokens that stand for it.

    Args:
        processor: A processor of transformers, for pictures and text.
        image_token: What stands for a picture in a prompt; the prompt of the data set holds it once.
        layout: Says how the fine view of a picture is laid out, where the model has one (`split_layout`,
            `canvas_layout`, `anyres_layout`): called with the processor, (height, width) and `kwargs`.
        trim: How many ids of what the image token becomes belong to the prompt, not to the picture: at its end, or
            (at its beginning, at its end), as where a processor writes the start of a text (Emu3).
        square: Whether the processor pads the picture on both sides to a square (Janus, DeepSeek-VL); the model is then
            declared with `padded=True`.
        **kwargs: What the image processor is given with every picture, e.g. `do_image_splitting=False`; what the
            tokenizer is given as `text_kwargs=dict(...)`.

    Raises:
        ValueError: For a keyword that neither knows.
    """

    def __init__(
        self,
        processor: Any,
        image_token: str,
        layout: Layout | None = None,
        trim: int | tuple[int, int] = 0,
        square: bool = False,
        **kwargs: Any,
    ) -> None:
        self.processor = processor
        self.image_token = image_token
        self.layout = layout
        self.before, self.behind = (0, trim) if isinstance(trim, int) else trim
        self.square = square
        self.text_kwargs = {"add_special_tokens": False, **kwargs.pop("text_kwargs", {})}
        self.kwargs = {**kwargs.pop("images_kwargs", {}), **kwargs}
        known = check_keywords(processor.image_processor, self.kwargs)
        if _LEGACY in known:  # Video-LLaVA calls pixels otherwise, unless it is off
            self.kwargs.setdefault(_LEGACY, False)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        image_token: str,
        layout: Layout | None = None,
        trim: int | tuple[int, int] = 0,
        square: bool = False,
        call: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> "HFImageProcessor":
        """The processor of a folder or hub repository; `call` is passed with every picture, `kwargs` when loading."""
        processor = AutoProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return cls(processor, image_token, layout, trim, square, **(call or {}))

    def preprocess(self, images: Any) -> dict[str, list[Any]]:
        """One image or a list of them.

        Returns:
            Lists with one entry per image: `pixel_values`, `image_token_ids` (what the image token becomes),
            `lmm_inputs` (what else the processor gives, and `layout`), `token_inputs` (what it says of each of these
            tokens), `image_sizes`, `meta_datas` (the picture
            fills its frame, or lies in the middle of a square).
        """
        pictures = rgb_pictures(images)
        outputs = [self._process([picture]) for picture in pictures]
        sizes = [(picture.height, picture.width) for picture in pictures]
        if self.layout is not None:
            for output, size in zip(outputs, sizes, strict=True):
                output["layout"] = self.layout(self.processor, size, self.kwargs)
        return {
            "pixel_values": [output.pop("pixel_values") for output in outputs],
            "image_token_ids": [output["input_ids"][0, self.before : -self.behind or None] for output in outputs],
            "lmm_inputs": [whole(output) for output in outputs],
            "token_inputs": [
                {key: output[key][0, self.before : -self.behind or None] for key in of_tokens(output)}
                for output in outputs
            ],
            "image_sizes": sizes,
            "meta_datas": [self._frame(size) for size in sizes],
        }

    def _frame(self, size: Size) -> dict[str, dict[str, int]]:
        side = max(size)
        before = ((side - size[0]) // 2, (side - size[1]) // 2)
        return meta_data(size, (side, side), before) if self.square else meta_data(size, size, (0, 0))

    def join(self, images: Any) -> dict[str, Any]:
        """Several pictures as the model reads them in one text: `pixel_values` and `lmm_inputs`."""
        output = self._process(rgb_pictures(images))
        return {
            "pixel_values": output.pop("pixel_values"),
            "lmm_inputs": whole(output),
        }

    def image_tokens(self, processed: Mapping[str, Any]) -> list[int]:
        """Ids that take the place of the image token in the prompt."""
        return processed["image_token_ids"].tolist()

    @property
    def _format(self) -> dict[str, Any]:
        """Said to slow processors, which would guess: they take a picture of 1 or 3 rows for one of 1 or 3 channels."""
        fast = isinstance(self.processor.image_processor, TorchvisionBackend)
        return {} if fast else {"input_data_format": ChannelDimension.LAST}

    def _process(self, pictures: list[Any]) -> dict[str, Any]:
        sizes = ", ".join(f"{picture.height} x {picture.width}" for picture in pictures)
        name = f"{type(self.processor).__name__} cannot read a picture of {sizes} pixels (height x width)"
        try:
            output = self.processor(
                images=pictures,
                text=[self.image_token * len(pictures)],
                text_kwargs=dict(self.text_kwargs),
                images_kwargs={**self._format, **self.kwargs},
                common_kwargs={"return_tensors": "pt"},
            )
        except ValueError as error:
            raise ValueError(
                f"{name}: {error}. Crop or enlarge it, or check the image token {self.image_token!r}"
            ) from error
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(
                f"{name}: {type(error).__name__} {error}. Check the image token {self.image_token!r} and `call`"
            ) from error
        if "pixel_values" not in output:
            raise ValueError(f"{type(self.processor).__name__} gives {sorted(output)}, but no pixel_values")
        return dict(output)


def of_tokens(output: Mapping[str, Any]) -> list[str]:
    """Names of what a processor says of each token beside the usual (ERNIE 4.5 VL: which experts read it)."""
    shape = output["input_ids"].shape
    return [key for key, value in output.items() if key not in _TEXT and getattr(value, "shape", None) == shape]


def whole(output: Mapping[str, Any]) -> dict[str, Any]:
    """What a processor says of the picture as a whole."""
    others = {*_TEXT, *of_tokens(output)}
    return {key: value for key, value in output.items() if key not in others}


def check_keywords(image_processor: Any, given: Mapping[str, Any]) -> set[str]:
    """Refuses keywords that an image processor would ignore; returns those that it knows."""
    known = set(getattr(getattr(image_processor, "valid_kwargs", None), "__annotations__", ()))
    known |= {
        name
        for name, parameter in inspect.signature(image_processor.preprocess).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    } - {"images", "videos"}
    if unknown := sorted(set(given) - known):
        raise ValueError(
            f"{type(image_processor).__name__} does not know {', '.join(unknown)}; it knows "
            f"{', '.join(sorted(known))}. Give what the tokenizer is to know as text_kwargs=dict(...)"
        )
    return known


def split_layout(processor: Any, size: Size, call: Mapping[str, Any]) -> Size:
    """Rows and columns of tiles in Idefics3 and SmolVLM."""
    _, rows, columns = processor.image_processor.get_number_of_image_patches(*size, call)
    return rows, columns


def canvas_layout(processor: Any, size: Size, call: Mapping[str, Any]) -> Size:
    """Rows and columns of tiles in InternVL, Aya Vision, Cohere2 Vision and Ovis2, as each of them counts.

    Raises:
        ValueError: For an image processor of another kind.
    """
    images = processor.image_processor
    count = vars(sys.modules[type(images).__module__])  # Cohere2 Vision has another rule of the same name
    if not hasattr(images, "crop_to_patches") or "get_optimal_tiled_canvas" not in count:
        raise ValueError(
            f"canvas_layout is not for {type(images).__name__}, which cuts its tiles by a rule of its class"
        )
    tile, cut, fewest, most = (
        call.get(key, getattr(images, key)) for key in ("size", "crop_to_patches", "min_patches", "max_patches")
    )
    if not cut:
        return 1, 1
    if call.get("use_covering_area_grid", getattr(images, "use_covering_area_grid", False)):  # Ovis2
        columns, rows = count["get_min_tile_covering_grid"](size, tile["height"], most)
    else:
        columns, rows = count["get_optimal_tiled_canvas"](size, (tile["height"], tile["width"]), fewest, most)
    return rows, columns


def anyres_layout(processor: Any, size: Size, _call: Mapping[str, Any]) -> Size:
    """Rows and columns of tokens of the tiles of LLaVA-OneVision, LLaVA-NeXT and Granite 4, without padding."""
    images = processor.image_processor
    height, width = (images.size.get(key) or images.size["shortest_edge"] for key in ("height", "width"))
    count = getattr(processor, "num_image_tokens", None)
    side = height // processor.patch_size if count is None else isqrt(count)
    side = int(side * Fraction(getattr(processor, "downsample_rate", None) or 1))  # Granite 4 Vision
    resolution = select_best_resolution(size, images.image_grid_pinpoints)
    tiles = (resolution[0] // height, resolution[1] // width)
    # Private, but it is what the processor itself counts with: the two cannot disagree.
    tokens, rows = processor._get_unpadded_features(*size, side, side, *tiles)
    return rows, tokens // max(rows, 1)
