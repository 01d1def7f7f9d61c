"""MiniGemini (MGM): a CLIP tower whose tokens mine a sharper ConvNeXt picture for detail, read by Llama or Gemma."""

from mgm.model import MGMGemmaForCausalLM, MGMLlamaForCausalLM

__all__ = ["MGMGemmaForCausalLM", "MGMLlamaForCausalLM"]
