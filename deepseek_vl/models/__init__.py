"""Model, image processor and chat processor of DeepSeek-VL."""

from deepseek_vl.models.image_processing_vlm import VLMImageProcessor
from deepseek_vl.models.modeling_vlm import MultiModalityCausalLM
from deepseek_vl.models.processing_vlm import VLChatProcessor

__all__ = ["MultiModalityCausalLM", "VLChatProcessor", "VLMImageProcessor"]
