"""Reads what `deepseek-ai/deepseek-vl-*` repositories hold: their config.json and the names of their tensors."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import DeepseekVLConfig, DeepseekVLHybridConfig

# The original names its towers instead of describing them. Dimensions written beside the name go before the table's.
SIGLIP = {
    "siglip_large_patch16_384": {"width": 1024, "layers": 24, "heads": 16, "patch_size": 16, "mlp_ratio": 4},
    "siglip_so400m_patch14_384": {"width": 1152, "layers": 27, "heads": 16, "patch_size": 14, "mlp_ratio": 3.7362},
}
SAM = {
    "sam_b_downsample": {
        "width": 768,
        "layers": 12,
        "heads": 12,
        "global_attn_indexes": [2, 5, 8, 11],
        "downsample_channels": [512, 1024],
    },
}

Rename = tuple[str, str | None]
_SIGLIP_NAMES: list[Rename] = [
    (r"attn_pool\..*", None),  # the pooling head is never run
    (r"patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"pos_embed$", "embeddings.position_embedding.weight"),
    (r"blocks\.(\d+)\.norm", r"encoder.layers.\1.layer_norm"),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"norm\.", "post_layernorm."),
]
_NECK_NAMES: list[Rename] = [(r"0\.", "conv1."), (r"1\.", "layer_norm1."), (r"2\.", "conv2."), (r"3\.", "layer_norm2.")]
_SAM_NAMES: list[Rename] = [
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"blocks\.(\d+)\.norm", r"layers.\1.layer_norm"),
    (r"blocks\.(\d+)\.", r"layers.\1."),
    *((rf"neck\.{old}", f"neck.{new}") for old, new in _NECK_NAMES),
]
# A prefix, what takes its place, and the renaming of what follows it; the first prefix that fits is used.
_PARTS: list[tuple[str, str | None, list[Rename]]] = [
    ("language_model.model.", "model.language_model.", []),
    ("language_model.lm_head.", "lm_head.", []),
    ("vision_model.vision_tower.", "model.vision_model.", _SIGLIP_NAMES),
    ("vision_model.vision_tower_low.vision_tower.", "model.vision_model.", _SIGLIP_NAMES),
    ("vision_model.vision_tower_high.vision_tower.neck_hd.", "model.high_res_vision_neck.", _NECK_NAMES),
    ("vision_model.vision_tower_high.vision_tower.downsamples.0.", "model.high_res_vision_proj.conv1.", []),
    ("vision_model.vision_tower_high.vision_tower.downsamples.1.", "model.high_res_vision_proj.conv2.", []),
    ("vision_model.vision_tower_high.vision_tower.hd_alpha_downsamples", "model.high_res_vision_alpha", []),
    ("vision_model.vision_tower_high.vision_tower.", "model.high_res_vision_model.vision_encoder.", _SAM_NAMES),
    ("vision_model.high_layer_norm.", None, []),  # there, but never run
    ("vision_model.low_layer_norm.", None, []),
    ("aligner.high_up_proj.", "model.aligner.high_res_vision_proj.", []),
    ("aligner.low_up_proj.", "model.aligner.vision_proj.", []),
]
_ALIGNER = {"mlp_gelu": {"0": "linear1", "2": "linear2"}, "low_high_hybrid_split_mlp_gelu": {"1": "proj"}}


def read_config(raw: Mapping[str, Any]) -> DeepseekVLConfig | DeepseekVLHybridConfig:
    """The config of transformers' DeepSeek-VL from that of an original repository.

    Raises:
        ValueError: For towers or projectors that no released model has.
    """
    tower = raw["vision_config"]
    projector = raw["aligner_config"]["params"]
    if projector["projector_type"] not in _ALIGNER or projector.get("depth", 2) != 2:
        raise ValueError(f"aligner_config {projector}: known are {list(_ALIGNER)} of depth 2")
    text = {key: value for key, value in raw["language_config"].items() if not key.startswith("_")}
    common = {"text_config": text, "tie_word_embeddings": text.get("tie_word_embeddings", False)}
    if tower["cls"] == "CLIPVisionTower":
        return DeepseekVLConfig(vision_config=_siglip(tower["params"]), **common)
    if tower["cls"] != "HybridVisionTower":
        raise ValueError(f"vision_config.cls {tower['cls']!r}: known are 'CLIPVisionTower' and 'HybridVisionTower'")
    return DeepseekVLHybridConfig(
        vision_config=_siglip(tower["params"]["low_res_cfg"]),
        high_res_vision_config=_sam(tower["params"]["high_res_cfg"]),
        **common,
    )


def convert_weights(weights: Mapping[str, Tensor], projector_type: str) -> dict[str, Tensor]:
    """Tensors of an original repository under the names of transformers' modules.

    Args:
        weights: Tensors by their original name. Names that are not known stay, and are reported when loading.
        projector_type: `aligner_config.params.projector_type` of the repository.
    """
    converted: dict[str, Tensor] = {}
    for name, value in weights.items():
        renamed = _rename(name, projector_type)
        if renamed is None:
            continue
        if ".self_attn.qkv." in renamed:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                converted[renamed.replace(".qkv.", f".{part}_proj.")] = rows
        else:
            converted[renamed] = value[0] if renamed.endswith("position_embedding.weight") else value
    return converted


def _rename(name: str, projector_type: str) -> str | None:
    for prefix, target, rules in _PARTS:
        if name.startswith(prefix):
            rest = _apply(rules, name.removeprefix(prefix))
            return None if target is None or rest is None else target + rest
    if match := re.fullmatch(r"aligner\.layers\.(\d)\.(weight|bias)", name):
        layer = _ALIGNER[projector_type].get(match[1])
        return f"model.aligner.{layer}.{match[2]}" if layer else name
    return name


def _apply(rules: list[Rename], name: str) -> str | None:
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return None if replacement is None else re.sub(f"^{pattern}", replacement, name)
    return name


def _dimensions(params: Mapping[str, Any], table: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    name = params["model_name"]
    dimensions = {**table.get(name, {}), **params}
    if absent := [key for key in keys if key not in dimensions]:
        raise ValueError(
            f"vision tower {name!r} is not one of {list(table)} and its {', '.join(absent)} are not written beside it"
        )
    if dimensions.get("select_layer", -1) != -1:
        raise ValueError(f"vision tower {name!r}: select_layer {dimensions['select_layer']}, only -1 is supported")
    return dimensions


def _siglip(params: Mapping[str, Any]) -> dict[str, Any]:
    tower = _dimensions(params, SIGLIP, ["width", "layers", "heads", "patch_size", "mlp_ratio"])
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower["mlp_ratio"]),
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": tower["heads"],
        "image_size": tower["image_size"],
        "patch_size": tower["patch_size"],
        "hidden_act": "gelu",
        "vision_use_head": False,
        **_statistics(tower),
    }


def _sam(params: Mapping[str, Any]) -> dict[str, Any]:
    tower = _dimensions(params, SAM, ["width", "layers", "heads", "global_attn_indexes", "downsample_channels"])
    return {
        "hidden_size": tower["width"],
        "mlp_dim": 4 * tower["width"],
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": tower["heads"],
        "image_size": tower["image_size"],
        "global_attn_indexes": list(tower["global_attn_indexes"]),
        "downsample_channels": list(tower["downsample_channels"]),
        **_statistics(tower),
    }


def _statistics(tower: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(tower[key]) for key in ("pixel_mean", "pixel_std") if tower.get(key)}
