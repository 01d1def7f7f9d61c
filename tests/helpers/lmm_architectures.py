"""The LMMs of the configs, built from the config.json of their repositories; on the meta device, without weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import transformers as hf
from hub_files import read
from torch import nn

from deepseek_vl.models.modeling_vlm import OneTowerCausalLM, TwoTowerCausalLM
from deepseek_vl.models.original_format import read_config
from hpt import CLIPVisionModel, ProjectorModel, SiglipVisionModel
from hpt.modeling_projector import ProjectorConfig
from llava import CustomLlavaForConditionalGeneration, CustomLlavaNextForConditionalGeneration
from mgm.model import MGMConfig, MGMGemmaConfig, MGMGemmaForCausalLM, MGMLlamaForCausalLM

CLIP_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 336,
    "projection_dim": 768,
}
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 384,
    "vision_use_head": False,
}
# MGM reads these of its two towers' own repositories
TOWERS = {
    "mm_vision_config": {**CLIP_L, "model_type": "clip_vision_model"},
    "mm_aux_depths": [3, 3, 27, 3],
    "mm_aux_dims": [192, 384, 768, 1536],
}


def described(name: str) -> Any:
    """The config of a repository, as transformers' class for it."""
    raw = read(name)
    return hf.AutoConfig.for_model(raw.pop("model_type"), **raw)


def llava(model: type, name: str) -> dict[str, Any]:
    return {"model": model(described(name))}


def deepseek(model: type, name: str) -> dict[str, Any]:
    return {"model": model(read_config(read(name)))}


def mgm(model: type, config: type, name: str) -> dict[str, Any]:
    return {"model": model(config(**read(name), **TOWERS))}


def hpt(language: dict[str, Any], encoder: nn.Module) -> dict[str, Any]:
    """Of HPT's repositories only the sizes of files were seen."""
    projector = ProjectorConfig(visual_hidden_size=encoder.config.hidden_size, llm_hidden_size=language["hidden_size"])
    llm = hf.AutoModelForCausalLM.from_config(hf.LlamaConfig(**language))
    return {"llm": llm, "visual_encoder": encoder, "projector": ProjectorModel(projector)}


def image_text(name: str) -> dict[str, Any]:
    config = described(name)
    if name == "OpenGVLab/InternVL3-8B-hf":  # its config does not say so, its weights have a vocabulary head
        config.tie_word_embeddings = False
    return {"model": hf.AutoModelForImageTextToText.from_config(config)}


def decoder(width: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int) -> dict[str, Any]:
    """A decoder as transformers' configs spell it."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
    }


HF = {
    "qwen/frozen_qwen2_5_vl_3b_instruct": "Qwen/Qwen2.5-VL-3B-Instruct",
    "qwen/frozen_qwen2_5_vl_7b_instruct": "Qwen/Qwen2.5-VL-7B-Instruct",
    "hf/frozen_qwen2_vl_7b_instruct": "Qwen/Qwen2-VL-7B-Instruct",
    "hf/frozen_qwen3_vl_4b_instruct": "Qwen/Qwen3-VL-4B-Instruct",
    "hf/frozen_internvl3_8b": "OpenGVLab/InternVL3-8B-hf",
    "hf/frozen_llava_onevision_qwen2_7b": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "hf/frozen_smolvlm_instruct": "HuggingFaceTB/SmolVLM-Instruct",
    "hf/frozen_paligemma_3b_mix_448": "google/paligemma-3b-mix-448",
    "hf/frozen_gemma3_4b_it": "google/gemma-3-4b-it",
}
# By the config's path below configs/, without its common end: the parts of the LMM under the keywords of its class.
LMMS: dict[str, Callable[[], dict[str, Any]]] = {
    "llava/frozen_llava_1_5_vicuna_7b": partial(llava, CustomLlavaForConditionalGeneration, "llava-hf/llava-1.5-7b-hf"),
    "llava_next/frozen_llava_next_vicuna_7b": partial(
        llava, CustomLlavaNextForConditionalGeneration, "llava-hf/llava-v1.6-vicuna-7b-hf"
    ),
    "llava_next/frozen_llava_next_mistral_7b": partial(
        llava, CustomLlavaNextForConditionalGeneration, "llava-hf/llava-v1.6-mistral-7b-hf"
    ),
    "deepseek_vl/frozen_deepseek_vl_1_3b_chat": partial(
        deepseek, OneTowerCausalLM, "deepseek-ai/deepseek-vl-1.3b-chat"
    ),
    "deepseek_vl/frozen_deepseek_vl_7b_chat": partial(deepseek, TwoTowerCausalLM, "deepseek-ai/deepseek-vl-7b-chat"),
    "mgm/frozen_mgm_gemma_2b": partial(mgm, MGMGemmaForCausalLM, MGMGemmaConfig, "YanweiLi/MGM-2B"),
    "mgm/frozen_mgm_vicuna_7b": partial(mgm, MGMLlamaForCausalLM, MGMConfig, "YanweiLi/MGM-7B"),
    "mgm/frozen_mgm_vicuna_7b_hd": partial(mgm, MGMLlamaForCausalLM, MGMConfig, "YanweiLi/MGM-7B-HD"),
    "hpt/frozen_hpt_air": lambda: hpt(
        decoder(4096, 11008, 32, 32, 4, 64000), CLIPVisionModel(hf.CLIPVisionConfig(**CLIP_L))
    ),
    "hpt/frozen_hpt_air_1_5": lambda: hpt(
        decoder(4096, 14336, 32, 32, 8, 128256), SiglipVisionModel(hf.SiglipVisionConfig(**SO400M))
    ),
    **{config: partial(image_text, name) for config, name in HF.items()},
}
