"""Image processors of HPT Air (CLIP tower) and HPT Air 1.5 (SigLIP tower)."""

from transformers import SiglipImageProcessorPil
from transformers.image_processing_utils import BatchFeature

from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.padding import Size, resize_and_pad, scaled

CustomHPTImageProcessor = CustomLlavaImageProcessor


class CustomHPT15ImageProcessor(SiglipImageProcessorPil):
    """SigLIP's processor, but the picture keeps its proportions inside `size` and is padded to a square."""

    def preprocess(self, images) -> BatchFeature:  # type: ignore[override]
        """One image or a list of images; see `resize_and_pad`."""
        return resize_and_pad(self, images)

    def output_size(self, height: int, width: int) -> Size:
        """(height, width) of the resized picture: the largest that fits `size`."""
        box_height, box_width = self.size["height"], self.size["width"]
        if box_height / height < box_width / width:
            return box_height, scaled(width, box_height, height)
        return scaled(height, box_width, width), box_width
