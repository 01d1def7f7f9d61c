"""Image processor of LLaVA-NeXT."""

from typing import Any

import numpy as np
from transformers import LlavaNextImageProcessorPil
from transformers.image_processing_utils import BatchFeature, get_patch_output_size, select_best_resolution
from transformers.image_transforms import divide_to_patches, resize

from flmm.datasets.padding import LAST, normalised, pad_centred, rgb_arrays


class CustomLlavaNextImageProcessor(LlavaNextImageProcessorPil):
    """LLaVA-NeXT's own tiles, together with the meta data that the mask frames need.

    The picture is resized into the best of the grid resolutions, centred on black, and cut into tiles; the
    whole picture, squeezed into one square, comes first. `meta_data` describes the tiled frame and has two
    entries more: `grid_shape` (rows and columns of tiles) and `ori_shape` (the picture's own size).
    """

    def preprocess(self, images) -> BatchFeature:  # type: ignore[override]
        """Process one image or a list of images.

        Returns:
            Lists with one entry per image: `pixel_values` [1 + tiles, 3, s, s] float32, `image_sizes`,
                `meta_datas`.
        """
        arrays = rgb_arrays(images)
        views = [self._views(array) for array in arrays]
        data = {
            "pixel_values": [np.stack([normalised(self, view) for view in tiles]) for tiles, _ in views],
            "image_sizes": [array.shape[:2] for array in arrays],
            "meta_datas": [meta for _, meta in views],
        }
        return BatchFeature(data=data)

    def _views(self, image: np.ndarray) -> tuple[list[np.ndarray], dict[str, Any]]:
        height, width = image.shape[:2]
        tile, side = self.crop_size["height"], self.size["shortest_edge"]
        frame = select_best_resolution((height, width), self.image_grid_pinpoints)
        fitting = get_patch_output_size(image, frame, LAST)
        resized = resize(image, fitting, resample=self.resample, input_data_format=LAST)
        padded, meta = pad_centred(resized, tuple(frame), (0, 0, 0))
        meta["grid_shape"] = {"height": frame[0] // tile, "width": frame[1] // tile}
        meta["ori_shape"] = {"height": height, "width": width}
        whole = resize(image, (side, side), resample=self.resample, input_data_format=LAST)
        tiles = divide_to_patches(padded.transpose(2, 0, 1), tile)  # [3, tile, tile] each
        return [whole, *(np.moveaxis(np.asarray(cut), 0, -1) for cut in tiles)], meta
