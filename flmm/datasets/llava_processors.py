"""Image processor of LLaVA-1.5."""

from transformers import CLIPImageProcessorPil
from transformers.image_processing_utils import BatchFeature

from flmm.datasets.padding import Size, resize_and_pad, scaled


class CustomLlavaImageProcessor(CLIPImageProcessorPil):
    """CLIP's processor, but the whole picture is kept: its longest side becomes `size["shortest_edge"]`.

    The rest of the square is filled with the mean colour; nothing is cropped, whatever `do_center_crop` says.
    A `size` of height and width resizes to exactly these. Loads any CLIP `preprocessor_config.json`.
    """

    def preprocess(self, images) -> BatchFeature:  # type: ignore[override]
        """One image or a list of images; see `resize_and_pad`."""
        return resize_and_pad(self, images)

    def output_size(self, height: int, width: int) -> Size:
        """(height, width) of the resized picture."""
        if "shortest_edge" not in self.size:
            return self.size["height"], self.size["width"]
        edge = self.size["shortest_edge"]
        if height > width:
            return edge, scaled(width, edge, height)
        return scaled(height, edge, width), edge
