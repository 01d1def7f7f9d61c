"""Any processor of transformers' image-text models as an image processor of our data sets."""

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from transformers import AutoProcessor
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import select_best_resolution
from transformers.image_utils import ChannelDimension
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from flmm.datasets.padding import Size, meta_data, rgb_pictures

_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")
Layout = Callable[[Any, Size, Mapping[str, Any]], Size]


class HFImageProcessor:
    """Lets the model's own processor prepare the picture and write the tokens that stand for it.

    Args:
        processor: A processor of transformers, for pictures and text.
        image_token: What stands for a picture in a prompt; the prompt of the data set holds it once.
        layout: Says how the fine view of a picture is laid out, where the model has one (`split_layout`,
            `canvas_layout`, `anyres_layout`): called with the processor, (height, width) and `kwargs`.
        trim: How many ids at the end of what the image token becomes belong to the prompt, not to the picture.
        square: Whether the processor pads the picture on both sides to a square (Janus, DeepSeek-VL); the model is then
            declared with `padded=True`.
        **kwargs: Passed to the processor with every picture, e.g. `do_image_splitting=False`.
    """

    def __init__(
        self,
        processor: Any,
        image_token: str,
        layout: Layout | None = None,
        trim: int = 0,
        square: bool = False,
        **kwargs: Any,
    ) -> None:
        self.processor = processor
        self.image_token = image_token
        self.layout = layout
        self.trim = trim
        self.square = square
        self.kwargs = kwargs

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        image_token: str,
        layout: Layout | None = None,
        trim: int = 0,
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
            `lmm_inputs` (what else the processor gives, and `layout`), `image_sizes`, `meta_datas` (the picture
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
            "image_token_ids": [output["input_ids"][0, : -self.trim or None] for output in outputs],
            "lmm_inputs": [{key: output[key] for key in output if key not in _TEXT} for output in outputs],
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
            "lmm_inputs": {key: output[key] for key in output if key not in _TEXT},
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
        text = {"text": [self.image_token * len(pictures)], "add_special_tokens": False}
        try:
            return dict(self.processor(images=pictures, **text, return_tensors="pt", **self._format, **self.kwargs))
        except ValueError as error:
            sizes = ", ".join(f"{picture.height} x {picture.width}" for picture in pictures)
            raise ValueError(
                f"{type(self.processor).__name__} cannot read a picture of {sizes} pixels "
                f"(height x width): {error}. Crop or enlarge it"
            ) from error


def split_layout(processor: Any, size: Size, call: Mapping[str, Any]) -> Size:
    """Rows and columns of tiles in Idefics3 and SmolVLM."""
    _, rows, columns = processor.image_processor.get_number_of_image_patches(*size, call)
    return rows, columns


def canvas_layout(processor: Any, size: Size, call: Mapping[str, Any]) -> Size:
    """Rows and columns of tiles in InternVL."""
    images = processor.image_processor
    tile = call.get("size", images.size)
    fewest, most = (call.get(key, getattr(images, key)) for key in ("min_patches", "max_patches"))
    columns, rows = get_optimal_tiled_canvas(size, (tile["height"], tile["width"]), fewest, most)
    return rows, columns


def anyres_layout(processor: Any, size: Size, _call: Mapping[str, Any]) -> Size:
    """Rows and columns of tokens of LLaVA-OneVision's tiles, without padding and newlines."""
    images, side = processor.image_processor, isqrt(processor.num_image_tokens)
    resolution = select_best_resolution(size, images.image_grid_pinpoints)
    tiles = (length // images.size[key] for length, key in zip(resolution, ("height", "width"), strict=True))
    # Private, but it is what the processor itself counts with: the two cannot disagree.
    tokens, rows = processor._get_unpadded_features(*size, side, side, *tiles)
    return rows, tokens // max(rows, 1)
