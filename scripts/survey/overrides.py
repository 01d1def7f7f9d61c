"""What a type needs beside the common reduction, and the processors that transformers does not name."""

from typing import Any

_PINPOINTS = [[384, 768], [768, 384], [768, 768], [1152, 384], [384, 1152]]
# By type: settings of its config, which replace the reduced ones.
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"vision_config": {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}},
    "aya_vision": {"vision_config": {"image_size": 364}},
    "molmo2": {"image_patch_id": "<im_patch>", "adapter_config": {"vision_feature_layer": [1, 0]}},
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
    "gemma3": {"image_token_index": "<|image_token|>", "vision_config": {"patch_size": 14}},
    **dict.fromkeys(("minicpmv4_6", "minicpmv4_7"), {"insert_layer_id": 0}),
    "nemotron_h_omni": {"vision_hidden_size": 32, "projector_hidden_size": 64},
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 32,
            "indexer_budget": 64,
            "indexer_compress_ratio": 4,
            "ngram_vocab_size_base": 64,
        }
    },
    "gemma4_unified": {"text_config": {"head_dim": 32}, "vision_config": {"mm_embed_dim": 64, "output_proj_dims": 64}},
    "fast_vlm": {
        "image_seq_length": 256,
        "vision_config": {
            "architecture": "fastvit_mci3",
            "hidden_size": 64,
            "model_args": {
                "inference_mode": True,
                "layers": [1, 1, 1, 1, 1],
                "embed_dims": [16, 16, 32, 32, 32],
            },
        },
    },
    "perception_lm": {
        "projector_pooling_ratio": 2,
        "vision_config": {
            "architecture": "vit_pe_lang_large_patch14_448",
            "model_args": {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": [448, 448]},
        },
    },
    "step3p7": {"text_config": {"sliding_window": 64}},
    "deepseek_vl_hybrid": {
        "high_res_vision_config": {"image_size": 384, "output_channels": 32, "global_attn_indexes": [1], "mlp_dim": 64}
    },
    "hunyuan_vl": {"text_config": {"head_dim": 16}},
    "cohere_compass": {
        "text_config": {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
            }
        }
    },
    "granite4_vision": {
        "downsample_rate": "4/8",
        "deepstack_layer_map": [[-1, 0]],
        "spatial_target_layers": [1, 1, 1, 1],
        "image_grid_pinpoints": _PINPOINTS,
        "vision_config": {"hidden_size": 64, "image_size": 384, "patch_size": 16},
        "qformer_config": {"num_hidden_layers": 1, "intermediate_size": 64},
    },
    "muse_glimmer": {"out_hidden_size": 128},
    "muse_spark": {"out_hidden_size": 128},
    **dict.fromkeys(("idefics3", "smolvlm"), {"vision_config": {"image_size": 364, "patch_size": 14}}),
    "vipllava": {"vision_feature_layers": [-1, -2]},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 500, "vision_end_token_id": 501},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 500, "vision_end_token_id": 501},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {"mrope_section": [3, 3, 2]}}},
    "dots3_note": {"vision_config": {"adapter_in_dim": 32}},
    "gemma4": {"text_config": {"head_dim": 32}, "vision_config": {"head_dim": 16}},
    "diffusion_gemma": {"text_config": {"head_dim": 32}, "vision_config": {"head_dim": 16}},
}
# By type: tokens of its processor that its source does not write as a text in angle brackets.
TOKENS: dict[str, tuple[str, ...]] = {
    "fuyu": ("|SPEAKER|", "|NEWLINE|"),
    "minimax_m3_vl": ("]<]image[>[", "]<]video[>[", "]<]start of image[>[", "]<]end of image[>["),
    "pp_chart2table": ("<imgpad>", "<img>", "</img>"),
}
# By type: what stands for a picture in a prompt, where its processor leaves it to the prompt to repeat it.
IMAGE_TEXTS: dict[str, list[str]] = {"pp_chart2table": ["<img>" + "<imgpad>" * 256 + "</img>"]}
# By type: arguments of its image processor and processor.
_FEW = {"image_processor": {"max_soft_tokens": 70}}
PROCESSORS: dict[str, dict[str, Any]] = {
    "aya_vision": {
        "image_processor": {"size": {"height": 364, "width": 364}},
        "processor": {"patch_size": 14, "img_size": 364, "downsample_factor": 2},
    },
    "dots3_note": {"image_processor": {"temporal_patch_size": 1}},
    "granite4_vision": {
        "image_processor": {
            "size": {"shortest_edge": 384},
            "crop_size": {"height": 384, "width": 384},
            "image_grid_pinpoints": _PINPOINTS,
        },
        "processor": {"downsample_rate": "4/8", "patch_size": 16},
    },
    "fast_vlm": {
        "image_processor": {"size": {"shortest_edge": 1024}, "crop_size": {"height": 1024, "width": 1024}},
        "processor": {"patch_size": 64, "vision_feature_select_strategy": "full"},
    },
    "deepseek_vl_hybrid": {"image_processor": {"high_res_size": {"height": 384, "width": 384}}},
    "step3p7": {"image_processor": {"patch_size": 504}},
    "perception_lm": {"processor": {"patch_size": 14, "pooling_ratio": 2}},
    "paligemma": {"image_processor": {"image_seq_length": 256}},
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
    "fuyu": "its processor puts the picture in front of every text itself, so that no place in a prompt stands for it",
    "unlimited_ocr": "beside stretched tiles it pads the whole picture to a square; without tiles newlines end the "
    "rows of a square, for which there is no rule",
    "shieldgemma2": "a classifier with a fixed prompt, of Gemma 3's class",
    "gemma3n": "layers hand on several states of a token (AltUp), of which none is the hidden state",
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
