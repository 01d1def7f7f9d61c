"""MGM on Llama (7B and 7B-HD: Vicuna)."""

from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from mgm.model.mgm_arch import MGMForCausalLM, VisionFields


class MGMConfig(VisionFields, LlamaConfig):
    """Llama's configuration and the picture's."""

    model_type = "mgm"


class MGMLlamaForCausalLM(MGMForCausalLM, LlamaForCausalLM):
    """Llama that reads pictures; `forward` is Llama's, `generate` also takes pictures."""

    config_class = MGMConfig
    _no_split_modules = ["LlamaDecoderLayer", "CLIPVisionTower", "OpenCLIPVisionTower"]


AutoConfig.register(MGMConfig.model_type, MGMConfig, exist_ok=True)
