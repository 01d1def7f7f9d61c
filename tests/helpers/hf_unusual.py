"""Tiny image-text models whose decoder, tokens or tiles are unlike those of `hf_tiny`, each with its real processor."""

from functools import partial

import torch
import transformers as hf
from hf_tiny import PINPOINTS, QWEN3_TOWER, SIZE_56, TEXT, TOWER, Tiny, qwen3_processor, qwen_ids, qwen_tokens

from flmm.datasets.hf_processors import anyres_layout, canvas_layout
from flmm.models.grids import AnyresGrid, PatchGrid, SquareGrid, TileGrid

INDICATORS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
SIZE_1024 = {"height": 1024, "width": 1024}
CODES = 32  # entries of a VQ codebook
FIRST_CODE = 340  # id of the first of them in the vocabulary


def rows_with_a_newline(positions: torch.Tensor, inputs: dict) -> list[torch.Tensor]:
    """Emu3's tokens: 8 x 8 pixels each, a newline after each row."""
    rows, columns = (int(length) // 8 for length in inputs["image_sizes"].flatten())
    return [positions.view(rows, columns + 1)[:, :-1]]


def with_separator(tokenizer):
    """Chameleon's tokenizer has one, which its processor writes behind the picture."""
    tokenizer.add_special_tokens({"sep_token": "<sep>"})
    return tokenizer


def sections(first: int, *others: int, **more) -> dict:
    """Rotary parts for time, rows and columns."""
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [first, *others], **more}


LINEAR = {
    **TEXT,
    "num_hidden_layers": 3,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rope_parameters": sections(2, 1, 1, partial_rotary_factor=0.25, mrope_interleaved=True),
}
MOLMO = [
    "<im_patch>",
    "<im_col>",
    "<im_start>",
    "<low_res_im_start>",
    "<frame_start>",
    "<im_end>",
    "<frame_end>",
    "<im_low>",
]
UNUSUAL = {
    # two of three layers are linear attention
    "qwen3_5": Tiny(
        tokens=qwen_tokens(),
        model=lambda ids: hf.Qwen3_5Config(
            text_config=LINEAR,
            vision_config=QWEN3_TOWER,
            **qwen_ids(ids),
        ),
        processor=qwen3_processor,
        image_token="<|image_pad|>",
        prompt="<|vision_start|>{image}<|vision_end|>Describe.",
        grid=PatchGrid(),
    ),
    # its processor says the place of each patch; layers share keys, and have embeddings of their own
    "gemma4": Tiny(
        tokens={
            "image_token": "<|image|>",
            "boi_token": "<|image>",
            "eoi_token": "<image|>",
            "audio_token": "<|audio|>",
            "boa_token": "<|audio>",
            "eoa_token": "<audio|>",
        },
        model=lambda ids: hf.Gemma4Config(
            text_config={
                **TEXT,
                "num_hidden_layers": 4,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "sliding_window": 8,
                "global_head_dim": 16,
                "num_kv_shared_layers": 2,
                "hidden_size_per_layer_input": 8,
                "vocab_size_per_layer_input": TEXT["vocab_size"],
            },
            vision_config={**TOWER, "num_key_value_heads": 2, "head_dim": 16},
            image_token_id=ids["image_token"],
            boi_token_id=ids["boi_token"],
            eoi_token_id=ids["eoi_token"],
            audio_token_id=ids["audio_token"],
            video_token_id=None,
        ),
        processor=lambda tokenizer: hf.Gemma4Processor(
            hf.Gemma4AudioFeatureExtractor(),
            hf.Gemma4ImageProcessor(max_soft_tokens=70),
            tokenizer,
            hf.Gemma4VideoProcessor(),
        ),
        image_token="<|image|>",
        grid=PatchGrid(),
    ),
    # GLM-4.6V: a quarter of the tokens, and words around the picture
    "glm46v": Tiny(
        tokens={
            "image_token": "<|image|>",
            "video_token": "<|video|>",
            "start": "<|begin_of_image|>",
            "end": "<|end_of_image|>",
        },
        model=lambda ids: hf.Glm46VConfig(
            text_config={
                **TEXT,
                "model_type": "glm4v_text",
                "rope_parameters": sections(2, 1, 1, partial_rotary_factor=0.5),
            },
            vision_config={
                "model_type": "glm4v_vision",
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 64,
            },
            image_token_id=ids["image_token"],
            video_token_id=ids["video_token"],
            image_start_token_id=ids["start"],
            image_end_token_id=ids["end"],
        ),
        processor=lambda tokenizer: hf.Glm46VProcessor(
            hf.Glm46VImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 200 * 200 * 2}),
            tokenizer,
            hf.Glm46VVideoProcessor(),
        ),
        image_token="<|image|>",
        prompt="<|begin_of_image|>{image}<|end_of_image|>Describe.",
        grid=PatchGrid(),
    ),
    # the processor replaces a word that is no token; the whole picture comes first
    "ovis2": Tiny(
        tokens={"image_token": "<IMG_ATOM>", **{name.strip("<>").lower(): name for name in INDICATORS}},
        model=lambda ids: hf.Ovis2Config(
            vision_config={**TOWER, "image_size": 56, "patch_size": 14, "vocab_size": 64},
            text_config={**TEXT},
            image_token_id=ids["image_token"],
            visual_indicator_token_ids=[ids[name.strip("<>").lower()] for name in INDICATORS],
            vocab_size=TEXT["vocab_size"],
            hidden_size=TEXT["hidden_size"],
        ),
        processor=lambda tokenizer: hf.Ovis2Processor(
            hf.Ovis2ImageProcessor(size=SIZE_56), tokenizer, image_seq_length=16
        ),
        image_token="<image>",
        grid=TileGrid(side=4, whole="first"),
        call={"layout": canvas_layout, "crop_to_patches": True, "max_patches": 6},
        views=2,
    ),
    # counts its tiles by a rule that only shares its name with InternVL's
    "cohere2_vision": Tiny(
        tokens={
            "image_token": "<|IMG_PATCH|>",
            "boi_token": "<|START_OF_IMG|>",
            "eoi_token": "<|END_OF_IMG|>",
            "img_line_break_token": "<|IMG_LINE_BREAK|>",
        },
        model=lambda ids: hf.Cohere2VisionConfig(
            vision_config={**TOWER, "model_type": "siglip_vision_model", "image_size": 112, "patch_size": 14},
            text_config={**TEXT, "model_type": "cohere2"},
            image_token_id=ids["image_token"],
            alignment_intermediate_size=64,
        ),
        processor=lambda tokenizer: hf.Cohere2VisionProcessor(
            hf.Cohere2VisionImageProcessor(size={"height": 112, "width": 112}, patch_size=4), tokenizer
        ),
        image_token="<|IMG_PATCH|>",
        grid=TileGrid(side=4),
        call={"layout": canvas_layout, "max_patches": 6},
        views=2,
    ),
    # the decoder is inside a language model with its vocabulary
    "llama4": Tiny(
        tokens={
            "fake": "<|image|>",
            "patch": "<|patch|>",
            "start": "<|image_start|>",
            "end": "<|image_end|>",
            "x": "<|tile_x_separator|>",
            "y": "<|tile_y_separator|>",
        },
        model=lambda ids: hf.Llama4Config(
            vision_config={
                **TOWER,
                "intermediate_size": 128,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
                "image_size": 56,
                "patch_size": 7,
            },
            text_config={**TEXT, "intermediate_size_mlp": 96, "num_local_experts": 2, "no_rope_layer_interval": 2},
            image_token_index=ids["patch"],
            boi_token_index=ids["start"],
            eoi_token_index=ids["end"],
        ),
        processor=lambda tokenizer: hf.Llama4Processor(
            hf.Llama4ImageProcessor(size=SIZE_56, max_patches=4), tokenizer, patch_size=7
        ),
        image_token="<|image|>",
        grid=SquareGrid(side=4, at="last"),
    ),
    # a hybrid: two of three layers are convolutions; its final norm has another name
    "lfm2_vl": Tiny(
        tokens={
            "image_token": "<image>",
            "image_start_token": "<|image_start|>",
            "image_end_token": "<|image_end|>",
            "image_thumbnail": "<|img_thumbnail|>",
        },
        model=lambda ids: hf.Lfm2VlConfig(
            vision_config={**TOWER, "model_type": "siglip2_vision_model", "patch_size": 16, "num_patches": 64},
            text_config={
                **TEXT,
                "num_hidden_layers": 3,
                "layer_types": ["conv", "full_attention", "conv"],
                "block_auto_adjust_ff_dim": False,
            },
            image_token_id=ids["image_token"],
            projector_hidden_size=64,
        ),
        processor=lambda tokenizer: hf.Lfm2VlProcessor(
            hf.Lfm2VlImageProcessor(min_image_tokens=16, max_image_tokens=64, tile_size=128), tokenizer
        ),
        image_token="<image>",
        grid=PatchGrid(merge=2, key="spatial_shapes"),
        call={"do_image_splitting": False},
    ),
    # its processor does not say how many tokens a picture takes
    "llava_next": Tiny(
        tokens={"image_token": "<image>"},
        model=lambda ids: hf.LlavaNextConfig(
            vision_config={**TOWER, "model_type": "clip_vision_model", "image_size": 56, "patch_size": 14},
            text_config={**TEXT, "model_type": "llama"},
            image_token_index=ids["image_token"],
            image_grid_pinpoints=PINPOINTS,
        ),
        processor=lambda tokenizer: hf.LlavaNextProcessor(
            hf.LlavaNextImageProcessor(size={"shortest_edge": 56}, crop_size=SIZE_56, image_grid_pinpoints=PINPOINTS),
            tokenizer,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        image_token="<image>",
        grid=AnyresGrid(side=4),
        call={"layout": anyres_layout},
        views=2,
    ),
    # a decoder of linear attention; its tower merges windows of patches, and the tokens once more
    "minicpm_v": Tiny(
        tokens={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "image_start_token": "<image>",
            "image_end_token": "</image>",
            "slice_start_token": "<slice>",
            "slice_end_token": "</slice>",
            "image_id_start_token": "<image_id>",
            "image_id_end_token": "</image_id>",
        },
        model=lambda ids: hf.MiniCPMV4_6Config(
            text_config={"model_type": "qwen3_5_text", **LINEAR},
            vision_config={**TOWER, "image_size": 448, "patch_size": 14},
            insert_layer_id=0,
            image_token_id=ids["image_token"],
            video_token_id=ids["video_token"],
        ),
        processor=lambda tokenizer: hf.MiniCPMV4_6Processor(
            hf.MiniCPMV4_6ImageProcessor(), hf.MiniCPMV4_6VideoProcessor(), tokenizer
        ),
        image_token="<|image_pad|>",
        grid=PatchGrid(),
        call={"slice_mode": False},
    ),
    # its processor says rows and columns of both views, and starts the text
    "molmo2": Tiny(
        tokens={
            "image_token": "<|image|>",
            "video_token": "<|video|>",
            **{f"molmo_{index}": token for index, token in enumerate(MOLMO)},
        },
        load_tokenizer=partial(hf.GPT2TokenizerFast.from_pretrained, bos_token="<|endoftext|>"),
        model=lambda ids: hf.Molmo2Config(
            vision_config={**TOWER, "num_key_value_heads": 2, "head_dim": 16, "image_size": [112, 112]},
            adapter_config={
                **TOWER,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "text_hidden_size": 64,
                "vision_feature_layer": [1, 0],
            },
            text_config={**TEXT, "additional_vocab_size": 16},
            image_patch_id=ids["molmo_0"],
        ),
        processor=lambda tokenizer: hf.Molmo2Processor(
            hf.Molmo2ImageProcessor(size={"height": 112, "width": 112}, max_crops=6, overlap_margins=[1, 1]),
            hf.Molmo2VideoProcessor(),
            tokenizer,
        ),
        image_token="<|image|>",
        grid=AnyresGrid(),
        call={"trim": (1, 0)},
        views=2,
    ),
    # its embeddings hold nothing of the picture: layers add it
    "granite4_vision": Tiny(
        tokens={"image_token": "<image>"},
        model=lambda ids: hf.Granite4VisionConfig(
            vision_config={**TOWER, "hidden_size": 64, "image_size": 64, "patch_size": 8},
            text_config={**TEXT, "model_type": "granite4_vision_text"},
            qformer_config={"num_hidden_layers": 1, "intermediate_size": 64},
            image_token_index=ids["image_token"],
            image_grid_pinpoints=[[64, 64], [64, 128], [128, 64], [128, 128], [64, 192], [192, 64]],
            downsample_rate="2/4",
            deepstack_layer_map=[[-1, 0]],
            spatial_target_layers=[1, 1, 1, 1],
        ),
        processor=lambda tokenizer: hf.Granite4VisionProcessor(
            hf.LlavaNextImageProcessor(
                size={"shortest_edge": 64},
                crop_size={"height": 64, "width": 64},
                image_grid_pinpoints=[[64, 64], [64, 128], [128, 64], [128, 128], [64, 192], [192, 64]],
            ),
            tokenizer,
            patch_size=8,
            downsample_rate="2/4",
        ),
        image_token="<image>",
        grid=AnyresGrid(),
        call={"layout": anyres_layout},
        views=2,
    ),
    # convolutions instead of a tower of layers; below 16 x 16 cells each sees the whole picture
    "fast_vlm": Tiny(
        tokens={"image_token": "<image>"},
        model=lambda ids: hf.FastVlmConfig(
            text_config={**TEXT, "model_type": "qwen2"},
            vision_config={
                "model_type": "timm_wrapper",
                "architecture": "fastvit_mci3",
                "do_pooling": False,
                "hidden_size": 64,
                "model_args": {"inference_mode": True, "layers": [1] * 5, "embed_dims": [16, 16, 32, 32, 32]},
            },
            image_token_id=ids["image_token"],
            image_seq_length=256,
        ),
        processor=lambda tokenizer: hf.LlavaProcessor(
            hf.CLIPImageProcessor(size={"shortest_edge": 1024}, crop_size=SIZE_1024),
            tokenizer,
            patch_size=64,
            vision_feature_select_strategy="full",
        ),
        image_token="<image>",
        grid=SquareGrid(),
        call={"do_center_crop": False, "size": SIZE_1024},
    ),
    # experts for words and for pictures: its processor says of each token which
    "ernie4_5_vl": Tiny(
        tokens={
            "image_token": "<|IMAGE_PLACEHOLDER|>",
            "image_start_token": "<|IMAGE_START|>",
            "image_end_token": "<|IMAGE_END|>",
            "video_token": "<|VIDEO_PLACEHOLDER|>",
            "video_start_token": "<|VIDEO_START|>",
            "video_end_token": "<|VIDEO_END|>",
        },
        model=lambda ids: hf.Ernie4_5_VLMoeConfig(
            text_config={
                **TEXT,
                "moe_intermediate_size": [32, 32],
                "moe_num_experts": 4,
                "moe_k": 2,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]},
            },
            vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
            image_token_id=ids["image_token"],
            image_start_token_id=ids["image_start_token"],
            image_end_token_id=ids["image_end_token"],
            video_token_id=ids["video_token"],
            video_start_token_id=ids["video_start_token"],
            video_end_token_id=ids["video_end_token"],
        ),
        processor=lambda tokenizer: hf.Ernie4_5_VLMoeProcessor(
            hf.Ernie4_5_VLMoeImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 200 * 200}),
            tokenizer,
            hf.Ernie4_5_VLMoeVideoProcessor(),
        ),
        # all three are read by the experts for pictures
        image_token="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        prompt="Picture 1:{image}Describe.",
        grid=PatchGrid(),
    ),
}
# Their towers turn the picture into entries of a codebook; random ones say nothing about a place.
CODEBOOKS = {
    # the model itself is the decoder
    "chameleon": Tiny(
        tokens={"image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>"},
        load_tokenizer=partial(hf.LlamaTokenizerFast.from_pretrained, bos_token="<|endoftext|>", add_bos_token=False),
        model=lambda ids: hf.ChameleonConfig(
            **{key: value for key, value in TEXT.items() if key != "head_dim"},
            vq_config={
                "embed_dim": 16,
                "num_embeddings": CODES,
                "latent_channels": 16,
                "resolution": 32,
                "base_channels": 32,
                "channel_multiplier": [1, 1, 1],
                "num_res_blocks": 1,
            },
            vocabulary_map={
                "<image>": ids["image_token"],
                **{
                    "IMGIMG" + "".join("ABCDEFGHIJ"[int(digit)] for digit in str(code)) + "Z": FIRST_CODE + code
                    for code in range(CODES)
                },
            },
        ),
        processor=lambda tokenizer: hf.ChameleonProcessor(
            hf.ChameleonImageProcessor(), with_separator(tokenizer), image_seq_length=64
        ),
        image_token="<image>",
        grid=SquareGrid(),
        call={"trim": 1, "do_center_crop": False, "size": {"height": 32, "width": 32}},
    ),
    # its processor writes the start of the text; its generate drops the pixels
    "emu3": Tiny(
        tokens={
            "image_token": "<image>",
            "boi_token": "<|image start|>",
            "eoi_token": "<|image end|>",
            "image_wrapper_token": "<|image token|>",
            "eof_token": "<|extra_201|>",
            "eol_token": "<|extra_200|>",
        },
        load_tokenizer=partial(hf.GPT2TokenizerFast.from_pretrained, bos_token="<|extra_203|>"),
        model=lambda ids: hf.Emu3Config(
            vq_config={
                "codebook_size": CODES,
                "base_channels": 32,
                "channel_multiplier": [1, 1, 1, 1],
                "num_res_blocks": 1,
                "hidden_size": 32,
            },
            text_config={**TEXT, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0},
            vocabulary_map={
                "<image>": ids["image_token"],
                "<|extra_200|>": ids["eol_token"],
                **{f"<|visual token {code:06d}|>": FIRST_CODE + code for code in range(CODES)},
            },
        ),
        processor=lambda tokenizer: hf.Emu3Processor(
            hf.Emu3ImageProcessor(min_pixels=64 * 64, max_pixels=96 * 96), tokenizer
        ),
        image_token="<image>",
        grid=rows_with_a_newline,
        call={"trim": (1, 0)},
    ),
}
