"""The vision tower of HPT Air."""

import transformers

from llava.loading import CheckedLoading


class CLIPVisionModel(CheckedLoading, transformers.CLIPVisionModel):
    """transformers' CLIP tower."""
