"""Tiny random image-text models of transformers, each with its real processor class and a small tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import transformers as hf
from golden_cases import GOLDEN
from torch import nn

from flmm.datasets.hf_processors import HFImageProcessor, anyres_layout, canvas_layout, split_layout
from flmm.models.grids import AnyresGrid, PatchGrid, SquareGrid, TileGrid

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 400,
    "max_position_embeddings": 4096,
}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN3_TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
}
SIZE_56 = {"height": 56, "width": 56}
SIZE_64 = {"height": 64, "width": 64}
PINPOINTS = [[56, 56], [56, 112], [112, 56], [112, 112], [224, 224]]


@dataclass
class Tiny:
    """How one family is built small: special tokens, config, processor, image token and grid."""

    tokens: dict[str, str]
    model: Callable[[dict[str, int]], Any]  # ids by the tokens' names -> config
    processor: Callable[[Any], Any]  # tokenizer -> processor
    image_token: str
    grid: Any
    prompt: str = "{image}Describe."
    call: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)  # other arguments of FrozenHF
    views: int = 1
    load_tokenizer: Callable[..., Any] = hf.AutoTokenizer.from_pretrained

    def tokenizer(self) -> Any:
        folder = GOLDEN / "qwen25vl_a" / "backbone"
        return self.load_tokenizer(folder, extra_special_tokens=self.tokens)

    def build(self) -> tuple[nn.Module, dict[str, Any]]:
        """The model, and the keywords of its SampleBuilder."""
        tokenizer = self.tokenizer()
        ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in self.tokens.items()}
        torch.manual_seed(0)
        model = hf.AutoModelForImageTextToText.from_config(self.model(ids))
        for parameter in model.parameters():
            if (
                parameter.ndim > 1 and not parameter.any()
            ):  # Gemma 3 starts its projector at zero: no picture would pass
                nn.init.normal_(parameter, std=0.1)
        settings = {
            "image_processor": HFImageProcessor(self.processor(tokenizer), self.image_token, **self.call),
            "tokenizer": tokenizer,
            "prompt_template": {"INSTRUCTION": "User: {input}\nAssistant:"},
            "prompt": self.prompt.format(image=self.image_token),
            "image_token": self.image_token,
        }
        return model, settings


def qwen3_processor(tokenizer: Any) -> Any:
    """Qwen3-VL's, which Qwen3.5 has as well."""
    images = hf.Qwen2VLImageProcessor(min_pixels=64 * 64, max_pixels=200 * 200, patch_size=16)
    return hf.Qwen3VLProcessor(images, tokenizer, hf.Qwen3VLVideoProcessor())


def qwen_tokens() -> dict[str, str]:
    names = {"image_token": "image_pad", "video_token": "video_pad", "start": "vision_start", "end": "vision_end"}
    return {name: f"<|{token}|>" for name, token in names.items()}


def qwen_ids(ids: dict[str, int]) -> dict[str, int]:
    return {
        "image_token_id": ids["image_token"],
        "video_token_id": ids["video_token"],
        "vision_start_token_id": ids["start"],
        "vision_end_token_id": ids["end"],
    }


FAMILIES = {
    "qwen2_vl": Tiny(
        tokens=qwen_tokens(),
        model=lambda ids: hf.Qwen2VLConfig(
            text_config={**TEXT, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}},
            vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
            **qwen_ids(ids),
        ),
        processor=lambda tokenizer: hf.Qwen2VLProcessor(
            hf.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=160 * 160), tokenizer, hf.Qwen2VLVideoProcessor()
        ),
        image_token="<|image_pad|>",
        prompt="<|vision_start|>{image}<|vision_end|>Describe.",
        grid=PatchGrid(),
    ),
    "qwen3_vl": Tiny(
        tokens=qwen_tokens(),
        model=lambda ids: hf.Qwen3VLConfig(
            text_config={**TEXT, "rope_scaling": {"rope_type": "default", "mrope_section": [4, 2, 2]}},
            vision_config={**QWEN3_TOWER, "deepstack_visual_indexes": [0]},
            **qwen_ids(ids),
        ),
        processor=qwen3_processor,
        image_token="<|image_pad|>",
        prompt="<|vision_start|>{image}<|vision_end|>Describe.",
        grid=PatchGrid(),
    ),
    "internvl3": Tiny(
        tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        model=lambda ids: hf.InternVLConfig(
            vision_config={**TOWER, "image_size": [112, 112], "patch_size": [14, 14]},
            text_config={**TEXT, "model_type": "qwen2"},
            image_token_id=ids["context_image_token"],
            image_seq_length=16,
        ),
        processor=lambda tokenizer: hf.InternVLProcessor(
            hf.GotOcr2ImageProcessor(size={"height": 112, "width": 112}),
            tokenizer,
            hf.InternVLVideoProcessor(),
            image_seq_length=16,
        ),
        image_token="<IMG_CONTEXT>",
        grid=TileGrid(side=4),
        call={"layout": canvas_layout, "crop_to_patches": True, "min_patches": 2, "max_patches": 6},
        views=2,
    ),
    "llava_onevision": Tiny(
        tokens={"image_token": "<image>", "video_token": "<video>"},
        model=lambda ids: hf.LlavaOnevisionConfig(
            vision_config={**TOWER, "model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14},
            text_config={**TEXT, "model_type": "qwen2"},
            image_token_index=ids["image_token"],
            video_token_index=ids["video_token"],
            image_grid_pinpoints=PINPOINTS,
        ),
        processor=lambda tokenizer: hf.LlavaOnevisionProcessor(
            hf.LlavaOnevisionImageProcessor(size=SIZE_56, image_grid_pinpoints=PINPOINTS),
            tokenizer,
            hf.LlavaOnevisionVideoProcessor(size=SIZE_56),
            num_image_tokens=16,
            vision_feature_select_strategy="full",
        ),
        image_token="<image>",
        grid=AnyresGrid(side=4),
        call={"layout": anyres_layout},
        views=2,
    ),
    "smolvlm": Tiny(
        tokens={"image_token": "<image>", "fake_image_token": "<fake_token_around_image>", "global": "<global-img>"},
        model=lambda ids: hf.Idefics3Config(
            vision_config={**TOWER, "image_size": 64, "patch_size": 8},
            text_config={**TEXT, "model_type": "llama"},
            image_token_id=ids["image_token"],
            scale_factor=2,
        ),
        processor=lambda tokenizer: hf.Idefics3Processor(
            hf.Idefics3ImageProcessor(size={"longest_edge": 128}, max_image_size={"longest_edge": 64}),
            tokenizer,
            image_seq_len=16,
        ),
        image_token="<image>",
        grid=TileGrid(side=4),
        call={"layout": split_layout},
        views=2,
    ),
    "gemma3": Tiny(
        tokens={"image_token": "<soft>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
        model=lambda ids: hf.Gemma3Config(
            text_config={
                **TEXT,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "full_attention"],
                "query_pre_attn_scalar": 16,
            },
            vision_config={**TOWER, "image_size": 64, "patch_size": 8},
            mm_tokens_per_image=16,
            image_token_index=ids["image_token"],
            boi_token_index=ids["boi_token"],
            eoi_token_index=ids["eoi_token"],
        ),
        processor=lambda tokenizer: hf.Gemma3Processor(
            hf.Gemma3ImageProcessor(size=SIZE_64), tokenizer, image_seq_length=16
        ),
        image_token="<start_of_image>",
        grid=SquareGrid(),
    ),
    "paligemma": Tiny(
        tokens={"image_token": "<image>"},
        load_tokenizer=partial(hf.AutoTokenizer.from_pretrained, bos_token="<|endoftext|>"),
        model=lambda ids: hf.PaliGemmaConfig(
            vision_config={
                **TOWER,
                "model_type": "siglip_vision_model",
                "image_size": 64,
                "patch_size": 16,
                "projection_dim": 64,
            },
            text_config={**TEXT, "model_type": "gemma"},
            image_token_index=ids["image_token"],
            projection_dim=64,
        ),
        processor=lambda tokenizer: hf.PaliGemmaProcessor(
            hf.SiglipImageProcessor(size=SIZE_64, image_seq_length=16), tokenizer
        ),
        image_token="<image>",
        grid=SquareGrid(),
        call={"trim": 1},
        head={"prefix_lm": True},
    ),
    "deepseek_vl": Tiny(
        tokens={"image_token": "<image_placeholder>"},
        model=lambda ids: hf.DeepseekVLConfig(
            text_config={**TEXT, "model_type": "llama"},
            vision_config={**TOWER, "model_type": "siglip_vision_model", "image_size": 112, "patch_size": 7},
            image_token_id=ids["image_token"],
        ),
        processor=lambda tokenizer: hf.DeepseekVLProcessor(
            hf.DeepseekVLImageProcessor(size={"height": 112, "width": 112}), tokenizer, num_image_tokens=256
        ),
        image_token="<image_placeholder>",
        grid=SquareGrid(),
        call={"square": True},
        head={"padded": True},
    ),
}
