"""MGM on Gemma (2B)."""

from torch import Tensor
from transformers import AutoConfig, GemmaConfig, GemmaForCausalLM

from mgm.model.mgm_arch import MGMForCausalLM, VisionFields


class MGMGemmaConfig(VisionFields, GemmaConfig):
    """Gemma's configuration and the picture's.

    `hidden_act` of the released config.json is 'gelu', which transformers 4.38.2 to 4.46 ignored in favour of
    `hidden_activation`, by default the tanh form; later ones obey it. The results to reproduce are those with tanh.
    """

    model_type = "mgm_gemma"

    def __init__(self, hidden_activation: str | None = None, **kwargs):
        kwargs["hidden_act"] = hidden_activation or "gelu_pytorch_tanh"
        super().__init__(hidden_activation=hidden_activation, **kwargs)


class MGMGemmaForCausalLM(MGMForCausalLM, GemmaForCausalLM):
    """Gemma that reads pictures; `forward` is Gemma's."""

    config_class = MGMGemmaConfig
    _no_split_modules = ["GemmaDecoderLayer", "CLIPVisionTower", "OpenCLIPVisionTower"]

    def embed(self, input_ids: Tensor, image_tokens: Tensor) -> Tensor:
        """See the base class; picture tokens are scaled like words, as Gemma's decoder did up to transformers 4."""
        scale = self.get_input_embeddings().embed_scale.to(image_tokens.dtype)
        return super().embed(input_ids, image_tokens * scale)


AutoConfig.register(MGMGemmaConfig.model_type, MGMGemmaConfig, exist_ok=True)
