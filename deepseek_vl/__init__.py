"""DeepSeek-VL under the names that configs import, on transformers' own modules."""

from deepseek_vl.models import MultiModalityCausalLM, VLChatProcessor, VLMImageProcessor

__all__ = ["MultiModalityCausalLM", "VLChatProcessor", "VLMImageProcessor"]
