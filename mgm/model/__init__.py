"""MGM model classes under the names that configs import."""

from mgm.model.mgm_gemma import MGMGemmaConfig, MGMGemmaForCausalLM
from mgm.model.mgm_llama import MGMConfig, MGMLlamaForCausalLM

__all__ = ["MGMConfig", "MGMGemmaConfig", "MGMGemmaForCausalLM", "MGMLlamaForCausalLM"]
