"""Tiny random LMMs of any image-text type of transformers: its config class, reduced, and its real processor.

Pictures keep the size that the type gives them; widths, depths, experts and vocabulary become small. A token that a
processor asks its tokenizer for is made, so that nothing has to be downloaded.
"""

import importlib
import inspect
import re
from collections.abc import Iterable
from typing import Any

import torch
import transformers
from survey.overrides import CONFIGS, OTHER_PARTS, PROCESSOR_CLASSES, PROCESSORS, TOKENS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.auto import (
    configuration_auto,
    feature_extraction_auto,
    image_processing_auto,
    processing_auto,
    video_processing_auto,
)

VOCABULARY = 512
TEXT, VISION, SOUND = 0, 1, 2  # parts; the first two are places in the table below
_PARTS = ((r"text|llm|decoder|thinker|language", TEXT), (r"audio|sound|speech|talker", SOUND))
# By the name of a setting of a config: its value in the decoder and in any other part.
_SIZES: list[tuple[str, tuple[int, int]]] = [
    (
        r"(out|text|projection|projector|adapter_out|mm_embed|decoder|output_proj)_?(hidden_size|dim|dims|size)",
        (64, 64),
    ),
    (r"hidden_size|d_model|embed_dim|dim|width|n_embd|hidden_dim|embedding_dim", (64, 32)),
    (r"(dense|shared|shared_expert|expert)_intermediate_size|.*intermediate_size(_mlp)?", (96, 64)),
    (r"ffn_dim|mlp_dim|d_ff|encoder_ffn_dim|decoder_ffn_dim|share_expert_dim", (96, 64)),
    (r"num_hidden_layers|depth|num_layers|n_layers?|encoder_layers|decoder_layers", (2, 2)),
    (r"num_attention_heads|num_heads|n_heads?|(en|de)coder_attention_heads", (4, 2)),
    (r"num_key_value_heads|num_kv_heads|num_global_key_value_heads", (2, 2)),
    (r"head_dim|global_head_dim|attention_head_dim", (32, 16)),
    (r"vocab_size|output_vocab_size|vocab_size_per_layer_input", (VOCABULARY, VOCABULARY)),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts", (4, 4)),
    (r"num_experts_per_tok|top_k_experts|moe_topk|moe_k", (2, 2)),
    (r"n_group|topk_group|n_groups|mamba_n_groups", (1, 1)),
    (r"q_lora_rank", (24, 24)),
    (r"kv_lora_rank", (16, 16)),
    (r"qk_rope_head_dim", (16, 16)),
    (r"qk_nope_head_dim|v_head_dim", (16, 16)),
    (r"linear_num_key_heads", (2, 2)),
    (r"linear_num_value_heads|mamba_num_heads|mamba_n_heads", (4, 4)),
    (r"linear_(key|value)_head_dim|mamba_head_dim|mamba_d_head|ssm_state_size|mamba_d_state|chunk_size", (16, 16)),
    (r"hidden_size_per_layer_input", (16, 16)),
]


def model_types() -> list[str]:
    """The image-text types of the installed transformers."""
    return list(transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def config_class(model_type: str) -> type[PretrainedConfig]:
    """The config class of a type."""
    return configuration_auto.CONFIG_MAPPING[model_type]


def tokenizer_for(source: str, more: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with every special token that the source text of a processor names, and more."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    literals = set(re.findall(r"[\"'](<[^\s<>\"'{}]+>|\[[A-Z_]+\])[\"']", source))
    names = set(re.findall(r"tokenizer(?:, \"|\.)(\w+_token)\b", source)) - {
        "eos_token",
        "add_bos_token",
        "add_eos_token",
        "bos_token",
        "pad_token",
        "unk_token",
    }
    names |= {"image_token", "video_token", "audio_token"}
    written = {name: default_text(source, name) or f"<|{name}|>" for name in sorted(names)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        extra_special_tokens=written,
    )
    tokenizer.add_tokens(sorted((literals | set(more)) - set(tokenizer.get_vocab())), special_tokens=True)
    return tokenizer


def default_text(source: str, name: str) -> str | None:
    """The text of a token where a processor gives it a default (`image_token="<image>"`)."""
    found = re.search(rf"\b{name}(?:: *str)? *= *\"(<[^\"]+>)\"", source)
    return found.group(1) if found else None


class TinyLMM:
    """A type's tiny config, processor and model.

    Args:
        model_type: One of `model_types()`.
    """

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type
        self.cls = config_class(model_type)
        self.default = self.cls()
        self.processor = self._processor()
        self.tokenizer = self.processor.tokenizer
        self.config = self._config()

    def model(self) -> nn.Module:
        """The model with random weights; what starts at zero is random too, or no picture would pass."""
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(self.config, dtype=torch.float32).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.1)
            if ".timm_model." in name and name.endswith("weight") and parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)  # timm's start is so small that no picture passes
            if re.search(r"(language|text).*\.(q|k|q_b|kv_b|qkv)_proj\.weight$", name):
                parameter.data *= 6  # else attention is nearly uniform, and a wrong row could not be told
        return model

    # ---- processor

    def _processor(self) -> Any:
        cls, images = self._processor_classes()
        source = inspect.getsource(inspect.getmodule(cls))
        tokenizer = tokenizer_for(source, TOKENS.get(self.model_type, ()))
        given = PROCESSORS.get(self.model_type, {})
        sizes = self._picture_sizes(images) | given.get("image_processor", {})
        parts = {"image_processor": images(**sizes), "tokenizer": tokenizer}
        parameters = inspect.signature(cls.__init__).parameters
        for name, mapping in (
            ("video_processor", video_processing_auto.VIDEO_PROCESSOR_MAPPING_NAMES),
            ("feature_extractor", feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING_NAMES),
        ):
            if name in parameters:
                parts[name] = self._helper(cls, name, mapping.get(self.model_type))
        more = {key: value for key, value in self._counts().items() if key in parameters}
        return cls(**parts, **(more | given.get("processor", {})))

    def _helper(self, cls: type, name: str, found: Any) -> Any:
        """The part that reads videos or sounds: it is not used, but a processor refuses to be without it."""
        found = next(iter(found.values())) if isinstance(found, dict) else found
        kind = "VideoProcessor" if name == "video_processor" else "FeatureExtractor"
        names = (found, cls.__name__.replace("Processor", kind), OTHER_PARTS[name])
        return next(getattr(transformers, known)() for known in names if known and hasattr(transformers, known))

    def _processor_classes(self) -> tuple[type, type]:
        name, images = PROCESSOR_CLASSES.get(self.model_type, (None, None))
        name = name or processing_auto.PROCESSOR_MAPPING_NAMES.get(self.model_type)
        if name is None:
            raise LookupError("transformers names no processor for it")
        if images is None:
            known = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(self.model_type)
            if known is None:
                raise LookupError("transformers names no image processor for it")
            images = known.get("torchvision") or known["pil"]
        return getattr(transformers, name), getattr(transformers, images)

    def _picture_sizes(self, images: Any) -> dict[str, Any]:
        """Arguments of the image processor that the tower must agree with."""
        vision: Any = getattr(self.default, "vision_config", None)
        known = set(getattr(getattr(images, "valid_kwargs", None), "__annotations__", ()))
        ours = {
            "patch_size": "patch_size",
            "merge_size": "spatial_merge_size",
            "temporal_patch_size": "temporal_patch_size",
        }
        found = {key: first_of(getattr(vision, name, None)) for key, name in ours.items() if key in known}
        sizes = {key: value for key, value in found.items() if value}
        side, default = first_of(getattr(vision, "image_size", None)), getattr(images, "size", None) or {}
        if side and set(default) == {"height", "width"}:
            sizes["size"] = {"height": side, "width": side}
        elif side and set(default) == {"shortest_edge"} and getattr(images, "do_center_crop", False):
            sizes |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        return sizes

    def _counts(self) -> dict[str, Any]:
        """What a processor must know of the tower: patches, and how many tokens they become."""
        vision = getattr(self.default, "vision_config", None)
        patch, size = (first_of(getattr(vision, name, None)) for name in ("patch_size", "image_size"))
        counts: dict[str, Any] = {"patch_size": patch} if patch else {}
        counts["vision_feature_select_strategy"] = getattr(self.default, "vision_feature_select_strategy", "default")
        counts["spatial_merge_size"] = getattr(self.default, "spatial_merge_size", 1)
        counts["num_additional_image_tokens"] = 1 if getattr(vision, "model_type", "").startswith("clip") else 0
        length = getattr(self.default, "image_seq_length", None)
        if patch and isinstance(size, int):
            counts["num_image_tokens"] = length or (size // patch) ** 2
        return counts

    # ---- config

    def _config(self) -> PretrainedConfig:
        given = dict(CONFIGS.get(self.model_type, {}))
        reduced = merged(self._reduced(self.default, TEXT, top=True), given)
        for name in ("image_token_id", "image_token_index", "image_patch_id"):
            if isinstance(reduced.get(name), str):
                reduced[name] = self.tokenizer.convert_tokens_to_ids(reduced[name])
        return self.cls(**reduced)

    def _reduced(self, config: PretrainedConfig, part: int, top: bool = False) -> dict[str, Any]:
        """Settings that make a config small, those of its parts included."""
        settings: dict[str, Any] = {}
        for name in config.sub_configs:
            inner = getattr(config, name, None)
            if isinstance(inner, PretrainedConfig):
                kind = next((kind for words, kind in _PARTS if re.match(words, name)), VISION)
                settings[name] = {"model_type": inner.model_type, **scalars(inner), **self._reduced(inner, kind)}
        values = {name: read(config, name) for name in fields(config)}
        for name, value in values.items():
            if name in settings or name in config.sub_configs:
                continue
            settings |= self._setting(name, value, part)
        settings |= {} if part == SOUND else self._lists(values, settings, config)
        settings |= self._rope(config, settings, part)
        if "kv_lora_rank" in settings and "num_key_value_heads" in settings:
            settings["num_key_value_heads"] = settings["num_attention_heads"]  # latent attention has no groups
        return settings

    def _setting(self, name: str, value: Any, part: int) -> dict[str, Any]:
        if re.search(r"(_token_id|_token_index|_patch_id|_id|_idx)$", name) and (
            value is None or isinstance(value, int)
        ):
            return {name: self._token(name)}
        if isinstance(value, bool) or not isinstance(value, int):
            return {}
        table = _SIZES[:1] if part == SOUND else _SIZES  # only what must fit the decoder: sounds are not read
        for pattern, sizes in table:
            if re.fullmatch(pattern, name):
                if part == SOUND:
                    return {name: sizes[0]}
                return {name: min(value, sizes[part]) if value > 0 else value}
        return {}

    def _lists(self, values: dict[str, Any], settings: dict[str, Any], config: Any) -> dict[str, Any]:
        """Lists with an entry per layer keep each kind once; lists of indices of layers keep the first layer."""
        depth = next((n for n in ("num_hidden_layers", "depth", "num_layers") if isinstance(values.get(n), int)), None)
        if depth is None:
            return {}
        layered = {
            name: value
            for name, value in values.items()
            if isinstance(value, list) and len(value) == values[depth] and not name.startswith("mtp")
        }
        kinds = max([settings.get(depth, 2), *(len(dict.fromkeys(map(str, value))) for value in layered.values())])
        changed: dict[str, Any] = {depth: kinds} if layered else {}
        for name, value in layered.items():
            first = [value[[str(v) for v in value].index(kind)] for kind in dict.fromkeys(map(str, value))]
            changed[name] = [first[index % len(first)] for index in range(kinds)]
        for name, value in values.items():
            if (
                re.search(r"index(e)?s$|_layers$|layer_ids$", name)
                and isinstance(value, list | tuple)
                and name not in layered
            ):
                changed[name] = [0] if value and isinstance(value[0], int) else value
        return changed

    def _rope(self, config: Any, settings: dict[str, Any], part: int) -> dict[str, Any]:
        rope = read(config, "rope_parameters")
        if part != TEXT or not isinstance(rope, dict):
            return {}
        if "rope_type" in rope and has_sections(config):  # their default is too long for small heads
            rope = {"mrope_section": [1, 1, 1], **rope}
        if "mrope_section" not in rope:
            return {}
        heads = settings.get("num_attention_heads", 4)
        latent = settings.get("qk_rope_head_dim") if settings.get("kv_lora_rank") else None
        width = latent or settings.get("head_dim") or settings.get("hidden_size", 64) // heads
        half = int(width * rope.get("partial_rotary_factor", 1.0)) // 2
        parts = len(rope["mrope_section"])
        section = [half - (parts - 1) * (half // parts)] + [half // parts] * (parts - 1)
        return {"rope_parameters": {**rope, "mrope_section": section}}

    def _token(self, name: str) -> int | None:
        """Id of a special token: as the processor has it, as the tokenizer has it, or one that nobody writes."""
        if name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            return getattr(self.tokenizer, name)
        stem = re.sub(r"_(id|index|idx)$", "", name)
        for holder in (self.processor, self.tokenizer):
            found = getattr(holder, f"{stem}_id", None)
            if isinstance(found, int):
                return found
            text = getattr(holder, stem, None)
            if isinstance(text, str):
                return self.tokenizer.convert_tokens_to_ids(text)
        return VOCABULARY - 1 - sum(map(ord, name)) % 16


def scalars(config: PretrainedConfig) -> dict[str, Any]:
    """What a part of a config says: its type's default may be another than that of the class it is in."""
    values = {name: read(config, name) for name in fields(config) if name not in config.sub_configs}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str | tuple)}


def first_of(value: Any) -> int | None:
    """A side in pixels or patches, which some configs write twice."""
    value = value[0] if isinstance(value, list | tuple) and value else value
    return value if isinstance(value, int) else None


def read(config: PretrainedConfig, name: str) -> Any:
    """A setting; None where it differs from layer to layer (Gemma 4)."""
    try:
        return getattr(config, name, None)
    except Exception:  # noqa: BLE001 -- transformers' error for it is not public
        return None


def has_sections(config: PretrainedConfig) -> bool:
    """Whether positions have parts for time, rows and columns."""
    module = importlib.import_module(type(config).__module__.replace("configuration", "modeling"))
    return "mrope_section" in inspect.getsource(module)


def fields(config: PretrainedConfig) -> list[str]:
    """Names of the settings that the classes of a config declare."""
    names = [
        name
        for cls in type(config).__mro__
        if cls.__module__.startswith("transformers.models")
        for name in cls.__dict__.get("__annotations__", {})
    ]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def merged(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Settings with those that are given, part by part."""
    result = dict(settings)
    for name, value in given.items():
        result[name] = merged(result.get(name) or {}, value) if isinstance(value, dict) else value
    return result
