"""MobileSAM's image encoder (arXiv 2306.14289): timm's TinyViT-5M whose last stage keeps the resolution."""

from __future__ import annotations

import re

from torch import Tensor, nn

from .common import check_image_size, make_neck


class TinyViT(nn.Module):
    """TinyViT-5M with SAM's neck: a 1/16 embedding like the ViTs', from about a hundredth of ViT-H's weights.

    Args:
        img_size: side of the input image in pixels.
        out_chans: channels of the embedding.
    """

    def __init__(self, img_size: int = 1024, out_chans: int = 256) -> None:
        from timm.models.tiny_vit import TinyVit  # timm takes a second to import; only vit_t needs it

        super().__init__()
        self.img_size = img_size
        backbone = TinyVit(
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        backbone.stages[3].downsample.conv2.conv.stride = (1, 1)  # the classifier's 1/32 would be too coarse
        self.patch_embed = backbone.patch_embed
        self.stages = backbone.stages
        self.neck = make_neck(320, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Encode normalised images [B, 3, img_size, img_size] to [B, out_chans, h, w], h = w = img_size / 16.

        Raises:
            ValueError: if the images have another size.
        """
        check_image_size(x, self.img_size)
        return self.neck(self.stages(self.patch_embed(x)))


_RENAMES = (
    (r"^image_encoder\.patch_embed\.seq\.0\.", "image_encoder.patch_embed.conv1."),
    (r"^image_encoder\.patch_embed\.seq\.2\.", "image_encoder.patch_embed.conv2."),
    (
        r"^image_encoder\.layers\.(\d+)\.downsample\.",  # timm counts the downsampling to the stage after it
        lambda match: f"image_encoder.stages.{int(match[1]) + 1}.downsample.",
    ),
    (r"^image_encoder\.layers\.", "image_encoder.stages."),
    (r"^(image_encoder\..*)\.c\.weight$", r"\1.conv.weight"),
)
_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")


def rename_mobile_sam_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of `mobile_sam.pt` timm's names; names that are timm's already stay.

    Its ImageNet classifier, which SAM never runs, is left out.
    """
    return {_rename(key): value for key, value in state_dict.items() if not key.startswith(_CLASSIFIER)}


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key
