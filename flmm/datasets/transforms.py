"""Pipeline steps that turn an item of mmdet's RefCocoDataset into samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import BaseTransform
from PIL import Image

from flmm.datasets.images import as_annotated, convertible, read_image
from flmm.datasets.masks import check_masks
from flmm.datasets.phrases import encode_expressions
from flmm.datasets.sample import ReadsSamples
from flmm.masks import segmentation_problem


class PILLoadImageFromFile(BaseTransform):
    """Load `img_path` as a PIL picture into `img`, and its (height, width) as `img_shape` and `ori_shape`.

    Where `height` and `width` say how it was annotated, a picture that only fits when turned as its EXIF entry says is
    turned, and one of another size is refused: polygons would be drawn at the wrong places.

    Args:
        backend_args: Keywords of an mmengine file backend. Where they ask for a petrel cluster and its client
            is not installed, the local file is read.
    """

    def __init__(self, backend_args: Mapping[str, Any] | None = None) -> None:
        self.backend_args = backend_args

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the picture; FileNotFoundError or ValueError name the file."""
        image = read_image(results["img_path"], self.backend_args)
        if "height" in results:
            image = as_annotated(image, (results["height"], results["width"]), results["img_path"])
        else:
            image = convertible(image, results["img_path"])
        for index, instance in enumerate(results.get("instances", ())):
            problem = "mask" in instance and segmentation_problem(instance["mask"], image.height, image.width)
            if problem:  # mmdet draws whatever it is
                raise ValueError(f"{results['img_path']}: of object {index}, {problem}")
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = (image.height, image.width)
        return results


class RefCOCO2PNG(ReadsSamples, BaseTransform):
    """An image with its referring expressions and their masks as one sample, or one for each expression.

    Goes after `PILLoadImageFromFile` and mmdet's `LoadAnnotations(with_mask=True)`. The expressions form one
    caption, each followed by a full stop, and each is a phrase.

    Args:
        concat: One sample with all expressions; False gives a list of samples, one for each expression, which
            share picture and pixels, so that an LMM reads them together.
        **reading: Arguments of `ReadsSamples`. With `allow_empty_masks` a polygon may cover no pixel.
    """

    def __init__(self, concat: bool = True, **reading: Any) -> None:
        super().__init__(**reading)
        self.concat = concat

    def transform(self, results: dict[str, Any]) -> Any:
        """See the class; the sample also has `file_name` and `phrases` (the expressions)."""
        texts, masks = results["text"], torch.from_numpy(results["gt_masks"].masks).float()
        source = str(results.get("img_path", "image"))
        if len(texts) != len(masks):
            raise ValueError(f"{source}: {len(texts)} expressions but {len(masks)} masks: each needs its own")
        if not self.allow_empty_masks:
            check_masks(masks, texts, source)
        image = results["img"]
        if masks.shape[-2:] != (image.height, image.width):
            raise ValueError(
                f"{source}: the image is {image.height} x {image.width} (height x width) but its masks are "
                f"{masks.shape[-2]} x {masks.shape[-1]}"
            )
        processed = self.builder.process(image)
        if self.concat:
            return self._sample(image, processed, texts, masks, source)
        return [
            self._sample(image, processed, [text], mask[None], source) for text, mask in zip(texts, masks, strict=True)
        ]

    def _sample(
        self, image: Image.Image, processed: dict[str, Any], texts: list[str], masks: torch.Tensor, source: str
    ) -> dict[str, Any]:
        caption_ids, mask_ids = encode_expressions(self.builder.tokenizer, texts, source)
        names = {"phrases": list(texts), "file_name": Path(source).name}
        return self.builder.build(image, caption_ids, mask_ids, masks, processed, **names)
