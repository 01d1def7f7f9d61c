"""Decoders whose attention is unlike that of Llama: what is captured is what eager attention gives."""

import pytest
import torch
import transformers as hf
from torch import nn

from flmm.models.capture import attending_layers, capture, implementation

BASE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 64,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12}
EXPERTS = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
WINDOW = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
STATES = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}
# name: config, indices of the layers that attend
DECODERS = {
    "soft cap (Gemma 2)": (
        hf.Gemma2Config(**BASE, **WINDOW, attn_logit_softcapping=2.0, query_pre_attn_scalar=16),
        [0, 1],
    ),
    "sinks (GPT-OSS)": (hf.GptOssConfig(**BASE, **WINDOW, num_local_experts=4, num_experts_per_tok=2), [0, 1]),
    "windows (Gemma 3)": (hf.Gemma3TextConfig(**BASE, **WINDOW, query_pre_attn_scalar=16), [0, 1]),
    "latent attention, experts (DeepSeek-V3)": (
        hf.DeepseekV3Config(
            **{**BASE, "num_key_value_heads": 4, "head_dim": 8}, **LATENT, **EXPERTS, first_k_dense_replace=1
        ),
        [0, 1],
    ),
    "experts (Qwen3-MoE)": (
        hf.Qwen3MoeConfig(**BASE, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2),
        [0, 1],
    ),
    "linear attention (Qwen3.5)": (hf.Qwen3_5TextConfig(**{**BASE, "head_dim": 32}, **LINEAR), [1]),
    "state spaces (Granite 4)": (
        hf.GraniteMoeHybridConfig(
            **{key: value for key, value in BASE.items() if key != "head_dim"},
            **STATES,
            layer_types=["mamba", "attention"],
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=32,
        ),
        [1],
    ),
    "chunks (Llama 4)": (
        hf.Llama4TextConfig(
            **BASE,
            intermediate_size_mlp=96,
            num_local_experts=2,
            attention_chunk_size=6,
            layer_types=["chunked_attention", "full_attention"],
        ),
        [0, 1],
    ),
    "shared keys, per-layer embeddings (Gemma 4)": (
        hf.Gemma4TextConfig(
            **{**BASE, "num_hidden_layers": 4},
            global_head_dim=16,
            sliding_window=5,
            layer_types=["sliding_attention", "full_attention"] * 2,
            num_kv_shared_layers=2,
            hidden_size_per_layer_input=8,
            vocab_size_per_layer_input=64,
        ),
        [0, 1, 2, 3],
    ),
}


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_capture_gives_what_eager_attention_gives(name):
    config, attending = DECODERS[name]
    torch.manual_seed(0)
    decoder = hf.AutoModel.from_config(config, dtype=torch.float32).eval()
    for key, value in decoder.named_parameters():
        if "q_proj" in key or "q_b_proj" in key:
            nn.init.normal_(value, std=0.5)  # attention that is nearly uniform would hide a wrong row
        elif "sinks" in key:
            nn.init.normal_(value)
    ids = torch.arange(1, 21)[None]
    rows = torch.tensor([4, 11, 19])
    with capture(decoder, [rows], lambda weights, _index: weights) as captured:
        output = decoder(input_ids=ids, use_cache=False)
    decoder.set_attn_implementation("eager")
    eager = decoder(input_ids=ids, use_cache=False, output_attentions=True)
    maps = [weights[0][:, rows] for weights in eager.attentions if weights is not None]
    assert attending_layers(decoder) == attending == sorted(captured.attention)
    for index, expected in zip(attending, maps, strict=True):
        assert expected.std() > 0.01
        torch.testing.assert_close(captured.attention[index][0], expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(output.last_hidden_state, eager.last_hidden_state, atol=1e-5, rtol=1e-4)
    hidden = captured.hidden[len(decoder.layers) - 1][0]
    torch.testing.assert_close(hidden, eager.last_hidden_state[0, rows], atol=1e-5, rtol=1e-4)


def test_only_decoders_that_sdpa_cannot_run_keep_eager_attention():
    found = {name: implementation(hf.AutoModel.from_config(config)) for name, (config, _) in DECODERS.items()}
    assert {name for name, used in found.items() if used == "eager"} == {"soft cap (Gemma 2)", "sinks (GPT-OSS)"}
