"""Segment Anything (arXiv 2304.02643) under the module names of the official package.

Official checkpoints load as they are. What differs from the package: fused attention, any dtype, text tokens
as prompts (`PromptEncoder.forward(..., text_embeds=...)`), and the variants `vit_t` and `vit_nano`.
"""

from .automatic_mask_generator import SamAutomaticMaskGenerator
from .build_sam import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    build_sam_vit_nano,
    build_sam_vit_t,
    sam_model_registry,
)
from .predictor import SamPredictor

__all__ = [
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_nano",
    "build_sam_vit_t",
    "sam_model_registry",
]
