"""LLaVA model classes under the names that configs import."""

from llava.modeling_llava import CustomLlavaForConditionalGeneration
from llava.modeling_llava_next import CustomLlavaNextForConditionalGeneration

__all__ = ["CustomLlavaForConditionalGeneration", "CustomLlavaNextForConditionalGeneration"]
