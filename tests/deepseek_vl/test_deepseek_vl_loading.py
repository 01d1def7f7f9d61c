import json

import pytest
import torch
from golden_cases import GOLDEN, golden_names
from safetensors.torch import load_file, save_file
from transformers import DeepseekVLForConditionalGeneration

from deepseek_vl.models import MultiModalityCausalLM
from deepseek_vl.models.original_format import convert_weights, read_config

ORIGINAL = GOLDEN / golden_names("deepseek_1b")[0] / "backbone"
# config.json of the released repositories, as far as it says what is built
SIGLIP = {"image_size": 384, "model_name": "siglip_large_patch16_384", "select_feature": "same", "select_layer": -1}
SAM = {"image_size": 1024, "model_name": "sam_b_downsample", "select_feature": "same", "select_layer": -1}
CONFIG_7B = {
    "model_type": "multi_modality",
    "aligner_config": {
        "params": {"depth": 2, "input_dim": 1024, "n_embed": 4096, "projector_type": "low_high_hybrid_split_mlp_gelu"}
    },
    "language_config": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 16384,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 30,
        "torch_dtype": "float16",
        "vocab_size": 102400,
        "_attn_implementation": "flash_attention_2",
    },
    "vision_config": {
        "cls": "HybridVisionTower",
        "params": {
            "high_res_cfg": {**SAM, "pixel_mean": [0.48145466, 0.4578275, 0.40821073]},
            "low_res_cfg": {**SIGLIP, "pixel_mean": [0.5, 0.5, 0.5]},
        },
    },
}


def original(tmp_path, weights, layout):
    """Writes weights with the original config in one of the layouts that hub repositories have."""
    (tmp_path / "config.json").write_text((ORIGINAL / "config.json").read_text())
    suffix = "bin" if layout == "bin" else "safetensors"
    stem = "pytorch_model" if layout == "bin" else "model"
    names = sorted(weights)
    parts = [names[0::2], names[1::2]]
    weight_map = {}
    for number, part in enumerate(parts, 1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        tensors = {name: weights[name] for name in part}
        torch.save(tensors, tmp_path / file) if layout == "bin" else save_file(tensors, tmp_path / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (tmp_path / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture(scope="module")
def weights():
    return load_file(ORIGINAL / "model.safetensors")


@pytest.fixture(scope="module")
def model():
    return MultiModalityCausalLM.from_pretrained(str(ORIGINAL), dtype=torch.float32)


def assert_same(one, other):
    expected = one.state_dict()
    assert set(expected) == set(other.state_dict())
    for name, value in other.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_sharded_original_repositories(tmp_path, weights, model, layout):
    assert_same(model, MultiModalityCausalLM.from_pretrained(original(tmp_path, weights, layout), dtype=torch.float32))


def test_the_format_of_transformers(tmp_path, model):
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "deepseek_vl"
    assert_same(model, MultiModalityCausalLM.from_pretrained(tmp_path, dtype=torch.float32))
    assert_same(model, DeepseekVLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32))


def test_dtype_and_loading_report(capsys):
    model, info = MultiModalityCausalLM.from_pretrained(
        str(ORIGINAL), dtype=torch.bfloat16, device_map="cpu", output_loading_info=True
    )
    assert model.dtype == torch.bfloat16
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert "loaded 87 of 87 tensors, 0 missing, 0 unexpected" in capsys.readouterr().out


def test_missing_weights(tmp_path, weights):
    kept = {name: value for name, value in weights.items() if not name.startswith("aligner.layers.2")}
    with pytest.raises(ValueError, match=r"2 tensors have no value.*model\.aligner\.linear2\.bias"):
        MultiModalityCausalLM.from_pretrained(original(tmp_path, kept, "safetensors"))


def test_no_such_folder():
    with pytest.raises(FileNotFoundError, match="/no/such/folder"):
        MultiModalityCausalLM.from_pretrained("/no/such/folder")


def test_another_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="holds a 'llama', not a DeepSeek-VL"):
        MultiModalityCausalLM.from_pretrained(tmp_path)


def test_unknown_tower():
    raw = json.loads((ORIGINAL / "config.json").read_text())
    raw["vision_config"]["params"] = {"image_size": 384, "model_name": "siglip_giant", "select_layer": -1}
    with pytest.raises(ValueError, match=r"'siglip_giant' is not one of .* width, layers"):
        read_config(raw)


def test_the_7b_model_has_its_released_size():
    config = read_config(CONFIG_7B)
    with torch.device("meta"):
        from deepseek_vl.models.modeling_vlm import TwoTowerCausalLM

        model = TwoTowerCausalLM(config)
    assert model.config.text_config._attn_implementation != "flash_attention_2"
    assert (config.text_config.num_hidden_layers, config.text_config.num_attention_heads) == (30, 32)
    assert model.model.high_res_vision_proj.conv2.weight.shape == (1024, 512, 3, 3)
    assert model.model.aligner.high_res_vision_proj.weight.shape == (2048, 1024)
    assert model.model.global_attn_index == 2
    assert config.high_res_vision_config.pixel_mean == [0.48145466, 0.4578275, 0.40821073]


def test_unknown_names_are_kept_for_the_report():
    weights = {"vision_model.extra": torch.zeros(1), "vision_model.vision_tower.attn_pool.latent": torch.zeros(1)}
    assert list(convert_weights(weights, "mlp_gelu")) == ["vision_model.extra"]
