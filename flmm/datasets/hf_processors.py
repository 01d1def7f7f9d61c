"""Any processor of transformers' image-text models as an image processor of our data sets."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoProcessor
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import make_flat_list_of_images

from flmm.datasets.padding import meta_data

_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


class HFImageProcessor:
    """Lets the model's own processor prepare the picture and write the tokens that stand for it.

    Args:
        processor: A processor of transformers, for pictures and text.
        image_token: What stands for a picture in a prompt; the prompt of the data set holds it once.
        **kwargs: Passed to the processor with every picture, e.g. `do_image_splitting=False`.
    """

    def __init__(self, processor: Any, image_token: str, **kwargs: Any) -> None:
        self.processor = processor
        self.image_token = image_token
        self.kwargs = kwargs

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, image_token: str, call: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> "HFImageProcessor":
        """The processor of a folder or hub repository; `call` is passed with every picture, `kwargs` when loading."""
        processor = AutoProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return cls(processor, image_token, **(call or {}))

    def preprocess(self, images: Any) -> dict[str, list[Any]]:
        """One image or a list of them.

        Returns:
            Lists with one entry per image: `pixel_values`, `image_token_ids` (what the image token becomes),
            `lmm_inputs` (what else the processor gives), `image_sizes`, `meta_datas` (the picture fills its frame).
        """
        flat: list[Any] = make_flat_list_of_images(images)  # type: ignore[assignment]
        pictures: list[Any] = [convert_to_rgb(image) for image in flat]
        outputs = [self._process(picture) for picture in pictures]
        sizes = [(picture.height, picture.width) for picture in pictures]
        return {
            "pixel_values": [output.pop("pixel_values") for output in outputs],
            "image_token_ids": [output["input_ids"][0] for output in outputs],
            "lmm_inputs": [{key: output[key] for key in output if key not in _TEXT} for output in outputs],
            "image_sizes": sizes,
            "meta_datas": [meta_data(size, size, (0, 0)) for size in sizes],
        }

    def image_tokens(self, processed: Mapping[str, Any]) -> list[int]:
        """Ids that take the place of the image token in the prompt."""
        return processed["image_token_ids"].tolist()

    def _process(self, picture: Any) -> dict[str, Any]:
        text = {"text": [self.image_token], "add_special_tokens": False}
        return dict(self.processor(images=[picture], **text, return_tensors="pt", **self.kwargs))
