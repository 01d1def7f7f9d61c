"""What a type needs beside the common reduction, and the processors that transformers does not name."""

from typing import Any

# By type: settings of its config, which replace the reduced ones.
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"vision_config": {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "lfm2_vl": {"text_config": {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}},
    "kimi_k25": {"projection_hidden_size": 32},
    "gemma4": {"text_config": {"head_dim": 32}, "vision_config": {"head_dim": 16}},
    "diffusion_gemma": {"text_config": {"head_dim": 32}, "vision_config": {"head_dim": 16}},
    "gemma4_unified": {"text_config": {"head_dim": 32}},
}
# By type: arguments of its image processor and processor.
PROCESSORS: dict[str, dict[str, Any]] = {}
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
