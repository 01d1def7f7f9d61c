"""LLaVA-1.5 on transformers' own modules."""

from transformers import LlavaForConditionalGeneration

from flmm.models.loading import CheckedLoading


class CustomLlavaForConditionalGeneration(CheckedLoading, LlavaForConditionalGeneration):
    """transformers' LLaVA under the name that configs and checkpoints of the reference use.

    What the pipeline needs (image features, token embeddings, the decoder) is public there, and `from_pretrained`
    reads the layouts written by transformers 4.39, 4.57 and 5.
    """
