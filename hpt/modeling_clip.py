"""The vision tower of HPT Air."""

import transformers

from flmm.models.loading import CheckedLoading


class CLIPVisionModel(CheckedLoading, transformers.CLIPVisionModel):
    """transformers' CLIP tower."""
