"""The LMMs of the configs, built on the meta device from the numbers of their config.json: all shapes, no weights."""

from collections.abc import Callable
from typing import Any

import transformers as hf
from torch import nn

from deepseek_vl.models.modeling_vlm import OneTowerCausalLM, TwoTowerCausalLM
from deepseek_vl.models.original_format import read_config
from hpt import CLIPVisionModel, ProjectorModel, SiglipVisionModel
from hpt.modeling_projector import ProjectorConfig
from llava import CustomLlavaForConditionalGeneration, CustomLlavaNextForConditionalGeneration
from mgm.model import MGMConfig, MGMGemmaConfig, MGMGemmaForCausalLM, MGMLlamaForCausalLM


def text(width: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    """A decoder as transformers' configs spell it."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
        **more,
    }


def tower(width: int, inner: int, layers: int, heads: int, patch: int, image: int, **more: Any) -> dict[str, Any]:
    """A vision tower as transformers' configs spell it."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": image,
        **more,
    }


CLIP_L = tower(1024, 4096, 24, 16, 14, 336, model_type="clip_vision_model", projection_dim=768)
VICUNA = text(4096, 11008, 32, 32, 32, 32064, model_type="llama")
MISTRAL = text(4096, 14336, 32, 32, 8, 32064, model_type="mistral")
DEFAULT_ROPE = {"rope_type": "default"}
GEMMA_2B = text(2048, 16384, 18, 8, 1, 256000, head_dim=256, model_type="gemma")
QWEN_7B = text(3584, 18944, 28, 28, 4, 152064, model_type="qwen2")
CONVNEXT = {"mm_vision_config": CLIP_L, "mm_aux_depths": [3, 3, 27, 3], "mm_aux_dims": [192, 384, 768, 1536]}


def so400m(image: int, layers: int = 27, **more: Any) -> dict[str, Any]:
    """SigLIP so400m without its pooling head."""
    more = {"model_type": "siglip_vision_model", "vision_use_head": False, **more}
    return tower(1152, 4304, layers, 16, 14, image, **more)


def llava(model: type, text_config: dict[str, Any], config: type) -> dict[str, Any]:
    return {"model": model(config(text_config=text_config, vision_config=CLIP_L))}


def deepseek(model: type, language: dict[str, Any], towers: dict[str, Any], projector: str) -> dict[str, Any]:
    aligner = {"params": {"projector_type": projector, "depth": 2}}
    return {
        "model": model(read_config({"language_config": language, "vision_config": towers, "aligner_config": aligner}))
    }


def hpt(language: dict[str, Any], encoder: nn.Module) -> dict[str, Any]:
    projector = ProjectorConfig(visual_hidden_size=encoder.config.hidden_size, llm_hidden_size=language["hidden_size"])
    llm = hf.AutoModelForCausalLM.from_config(hf.LlamaConfig(**language))
    return {"llm": llm, "visual_encoder": encoder, "projector": ProjectorModel(projector)}


def image_text(config: Any) -> dict[str, Any]:
    return {"model": hf.AutoModelForImageTextToText.from_config(config)}


def qwen2_5(language: dict[str, Any]) -> dict[str, Any]:
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": language["hidden_size"]}
    return image_text(hf.Qwen2_5_VLConfig(text_config=language, vision_config=vision))


SIGLIP_L = {"model_name": "siglip_large_patch16_384", "image_size": 384}
SAM_B = {"model_name": "sam_b_downsample", "image_size": 1024}
BOTH = {"cls": "HybridVisionTower", "params": {"low_res_cfg": SIGLIP_L, "high_res_cfg": SAM_B}}

# By the config's path below configs/, without its common end: the parts of the LMM under the keywords of its class.
LMMS: dict[str, Callable[[], dict[str, Any]]] = {
    "llava/frozen_llava_1_5_vicuna_7b": lambda: llava(CustomLlavaForConditionalGeneration, VICUNA, hf.LlavaConfig),
    "llava_next/frozen_llava_next_vicuna_7b": lambda: llava(
        CustomLlavaNextForConditionalGeneration, VICUNA, hf.LlavaNextConfig
    ),
    "llava_next/frozen_llava_next_mistral_7b": lambda: llava(
        CustomLlavaNextForConditionalGeneration, MISTRAL, hf.LlavaNextConfig
    ),
    "deepseek_vl/frozen_deepseek_vl_1_3b_chat": lambda: deepseek(
        OneTowerCausalLM,
        text(2048, 5632, 24, 16, 16, 102400),
        {"cls": "CLIPVisionTower", "params": SIGLIP_L},
        "mlp_gelu",
    ),
    "deepseek_vl/frozen_deepseek_vl_7b_chat": lambda: deepseek(
        TwoTowerCausalLM, text(4096, 11008, 30, 32, 32, 102400), BOTH, "low_high_hybrid_split_mlp_gelu"
    ),
    "mgm/frozen_mgm_gemma_2b": lambda: {"model": MGMGemmaForCausalLM(MGMGemmaConfig(**GEMMA_2B, **CONVNEXT))},
    "mgm/frozen_mgm_vicuna_7b": lambda: {"model": MGMLlamaForCausalLM(MGMConfig(**VICUNA, **CONVNEXT))},
    "mgm/frozen_mgm_vicuna_7b_hd": lambda: {
        "model": MGMLlamaForCausalLM(MGMConfig(**VICUNA, **CONVNEXT, image_grid=2, image_global=True))
    },
    "hpt/frozen_hpt_air": lambda: hpt(
        text(4096, 11008, 32, 32, 4, 64000), CLIPVisionModel(hf.CLIPVisionConfig(**CLIP_L))
    ),
    "hpt/frozen_hpt_air_1_5": lambda: hpt(
        text(4096, 14336, 32, 32, 8, 128256), SiglipVisionModel(hf.SiglipVisionConfig(**so400m(384)))
    ),
    "qwen/frozen_qwen2_5_vl_3b_instruct": lambda: qwen2_5(
        text(2048, 11008, 36, 16, 2, 151936, tie_word_embeddings=True)
    ),
    "qwen/frozen_qwen2_5_vl_7b_instruct": lambda: qwen2_5(QWEN_7B),
    "hf/frozen_qwen2_vl_7b_instruct": lambda: image_text(
        hf.Qwen2VLConfig(text_config=QWEN_7B, vision_config={"depth": 32, "embed_dim": 1280, "hidden_size": 3584})
    ),
    "hf/frozen_qwen3_vl_4b_instruct": lambda: image_text(
        hf.Qwen3VLConfig(
            text_config=text(2560, 9728, 36, 32, 8, 151936, head_dim=128, rope_scaling=DEFAULT_ROPE),
            tie_word_embeddings=True,
            vision_config={
                "depth": 24,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "out_hidden_size": 2560,
                "deepstack_visual_indexes": [5, 11, 17],
            },
        )
    ),
    "hf/frozen_internvl3_8b": lambda: image_text(
        hf.InternVLConfig(
            text_config={**QWEN_7B, "vocab_size": 151674},
            vision_config={"image_size": [448, 448]},
            tie_word_embeddings=False,
        )
    ),
    "hf/frozen_llava_onevision_qwen2_7b": lambda: image_text(
        hf.LlavaOnevisionConfig(text_config={**QWEN_7B, "vocab_size": 152000}, vision_config=so400m(384, layers=26))
    ),
    "hf/frozen_smolvlm_instruct": lambda: image_text(
        hf.Idefics3Config(
            text_config=text(2048, 8192, 24, 32, 32, 49155, model_type="llama"),
            vision_config={
                key: value for key, value in so400m(384).items() if key not in ("model_type", "vision_use_head")
            },
            scale_factor=3,
        )
    ),
    "hf/frozen_paligemma_3b_mix_448": lambda: image_text(
        hf.PaliGemmaConfig(
            text_config={**GEMMA_2B, "vocab_size": 257216},
            vision_config=so400m(448, projection_dim=2048),
            projection_dim=2048,
        )
    ),
    "hf/frozen_gemma3_4b_it": lambda: image_text(
        hf.Gemma3Config(
            text_config=text(2560, 10240, 34, 8, 4, 262208, head_dim=256),
            vision_config=so400m(896),
            mm_tokens_per_image=256,
        )
    ),
}
