"""The vision tower of HPT Air 1.5."""

from copy import deepcopy
from typing import Any, ClassVar

import transformers

from flmm.models.loading import CheckedLoading


class SiglipVisionModel(CheckedLoading, transformers.SiglipVisionModel):
    """transformers' SigLIP tower without its pooling head: HPT reads the features of an inner layer."""

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^head\."]

    def __init__(self, config: Any):
        config = deepcopy(config)
        config.vision_use_head = False
        super().__init__(config)
