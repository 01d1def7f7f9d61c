"""What a type needs beside the common reduction, and the processors that transformers does not name."""

from typing import Any

# By type: settings of its config, which replace the reduced ones.
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"vision_config": {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}},
    "aya_vision": {"vision_config": {"image_size": 364}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "lfm2_vl": {"text_config": {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}},
    "kimi_k25": {"projection_hidden_size": 32, "text_config": {"head_dim": 16}},
    "ovis2": {"image_token_id": "<IMG_ATOM>", "visual_indicator_token_ids": [500, 501, 502, 503, 504]},
    "pp_chart2table": {"image_token_index": "<imgpad>"},
    "llama4": {
        "image_token_index": "<|patch|>",
        "vision_config": {
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "intermediate_size": 128,
        },
    },
    "gemma3": {"vision_config": {"patch_size": 14}},
    "muse_glimmer": {"out_hidden_size": 128},
    "muse_spark": {"out_hidden_size": 128},
    "idefics3": {"vision_config": {"image_size": 364, "patch_size": 14}},
    "vipllava": {"vision_feature_layers": [-1, -2]},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 500, "vision_end_token_id": 501},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 500, "vision_end_token_id": 501},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {"mrope_section": [6, 6, 4]}}},
    "dots3_note": {"vision_config": {"adapter_in_dim": 32}},
    "gemma4": {"text_config": {"head_dim": 32}, "vision_config": {"head_dim": 16}},
    "diffusion_gemma": {"text_config": {"head_dim": 32}, "vision_config": {"head_dim": 16}},
    "gemma4_unified": {"text_config": {"head_dim": 32}},
}
# By type: arguments of its image processor and processor.
_FEW = {"image_processor": {"max_soft_tokens": 70}}
PROCESSORS: dict[str, dict[str, Any]] = {
    "aya_vision": {"image_processor": {"size": {"height": 364, "width": 364}}},
    **dict.fromkeys(("gemma4", "gemma4_unified", "diffusion_gemma"), _FEW),
}
# By type: names of its processor and image processor, where the auto classes have none.
PROCESSOR_CLASSES: dict[str, tuple[str | None, str | None]] = {
    "fast_vlm": ("LlavaProcessor", "CLIPImageProcessor"),
    "glm_ocr": ("Glm46VProcessor", "Glm46VImageProcessor"),
    "glmga": ("Glm46VProcessor", "GlmgaImageProcessor"),
    "cosmos3_omni": ("Qwen3VLProcessor", None),
    "glm4v_moe": (None, "Glm4vImageProcessor"),
    "qwen3_vl_moe": (None, "Qwen2VLImageProcessor"),
    "diffusion_gemma": (None, "Gemma4ImageProcessor"),
    "qwen2_5_omni_thinker": ("Qwen2_5OmniProcessor", "Qwen2VLImageProcessor"),
    "qwen3_omni_moe_thinker": ("Qwen3OmniMoeProcessor", "Qwen2VLImageProcessor"),
    "mistral4": ("PixtralProcessor", "PixtralImageProcessor"),
    "instructblipvideo": (None, "BlipImageProcessor"),
}
# What reads videos and sounds where neither the type nor its processor names a class.
OTHER_PARTS = {"video_processor": "Qwen2VLVideoProcessor", "feature_extractor": "WhisperFeatureExtractor"}
# By type: why it does not ground, where the message of the last try does not say it.
REASONS: dict[str, str] = {
    "deepseek_vl_hybrid": "not tried to the end: its tower of 1024 pixels is slow; grounded with transformers 4.57",
    "hy_v4_vl": "not tried to the end: has sinks, and runs with eager attention only",
    "gemma3": "its reduced tower gives another number of features here; grounds in tests/models/test_frozen_hf.py",
    "aya_vision": "its reduced tower does not fit its tiles here; grounded with transformers 4.57 (`canvas_layout`)",
    "molmo2": "its config names the image token otherwise (image_patch_id), and its two grids need a rule of their own",
    "shieldgemma2": "a classifier with a fixed prompt, of Gemma 3's class",
    "fast_vlm": "its tower is one of timm, which is not installed here",
    "perception_lm": "its tower is one of timm, which is not installed here",
    "gemma3n": "layers hand on several states of a token (AltUp), of which none is the hidden state",
    "smolvlm": "its processor needs num2words, which is not installed here; SmolVLM 1 has that of Idefics3",
    "video_llava": "its processor gives pixel_values_images, no pixel_values",
    "inkling_mm_model": "its processor does not say rows and columns: `layout` has to be written",
    "inkling2": "a second attention, over the outputs of layers, passes through the same interface",
    "inkling2_loop": "a second attention, over the outputs of layers, passes through the same interface",
    "mistral4": "a decoder without a tower, whose config names no image token",
    "chameleon": "picks entries of a codebook: random ones say nothing about a place (read in tests)",
    "emu3": "picks entries of a codebook: random ones say nothing about a place (read in tests)",
    "apertus1p5": "picks entries of a codebook: random ones say nothing about a place",
    "blip": "reads the picture by cross-attention from its text decoder",
    "blip-2": "a Q-Former: its tokens are learned queries, which show no place",
    "instructblip": "a Q-Former: its tokens are learned queries, which show no place",
    "instructblipvideo": "a Q-Former: its tokens are learned queries, which show no place",
    "evolla": "reads proteins, not pictures",
    "florence2": "an encoder-decoder: the picture is in the encoder, and its decoder attends to it by cross-attention",
    "git": "the picture is put before the text as embeddings without ids, so no image tokens can be found",
    "idefics": "reads the picture by gated cross-attention through a perceiver",
    "idefics2": "a perceiver: its tokens are learned queries, which show no place",
    "kosmos-2": "learned queries (image to text projection) stand for the picture",
    "kosmos-2.5": "learned queries (image to text projection) stand for the picture",
    "mllama": "reads the picture by cross-attention",
    "pix2struct": "an encoder-decoder: the picture is in the encoder",
    "pp_formulanet": "an encoder-decoder: the picture is in the encoder",
    "t5gemma2": "an encoder-decoder: the picture is in the encoder",
    "udop": "an encoder-decoder: the picture is in the encoder",
    "vision-encoder-decoder": "an encoder-decoder: the picture is in the encoder",
    "deepseek_ocr2": "learned queries of a causal tower stand for the picture",
    "aria": "learned queries stand for the picture",
    "pi0": "a policy for robots: it gives actions, not text",
    "diffusion_gemma": "writes text by diffusion over a block: words see later words",
}
