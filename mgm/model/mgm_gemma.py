"""MGM on Gemma (2B)."""

from transformers import AutoConfig, GemmaConfig, GemmaForCausalLM

from mgm.model.mgm_arch import MGMForCausalLM, VisionFields


class MGMGemmaConfig(VisionFields, GemmaConfig):
    """Gemma's configuration and the picture's.

    `hidden_act` of the released config.json is 'gelu', which transformers 4.38.2 to 4.46 ignored in favour of
    `hidden_activation`, by default the tanh form; 4.57 obeys it. The results to reproduce are those with tanh.
    """

    model_type = "mgm_gemma"

    def __init__(self, hidden_activation: str | None = None, **kwargs):
        kwargs["hidden_act"] = hidden_activation or "gelu_pytorch_tanh"
        super().__init__(hidden_activation=hidden_activation, **kwargs)


class MGMGemmaForCausalLM(MGMForCausalLM, GemmaForCausalLM):
    """Gemma that reads pictures; `forward` is Gemma's, which scales picture tokens like words."""

    config_class = MGMGemmaConfig
    _no_split_modules = ["GemmaDecoderLayer", "CLIPVisionTower", "OpenCLIPVisionTower"]


AutoConfig.register(MGMGemmaConfig.model_type, MGMGemmaConfig, exist_ok=True)
