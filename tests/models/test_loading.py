import json
import re

import pytest
import torch
from golden_cases import GOLDEN
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from weight_files import write_weights

from flmm.models.frozen_qwen import CustomQwenForConditionalGeneration
from flmm.models.loading import CheckedLoading, find_folder, load_into, read_weights, repository_config, where_in
from hpt import CLIPVisionModel, LanguageModel, SiglipVisionModel
from llava import CustomLlavaForConditionalGeneration, CustomLlavaNextForConditionalGeneration

LAYOUTS = [(name, shards) for name in ("model.safetensors", "pytorch_model.bin") for shards in (1, 3)]
# Of each class of transformers that we extend: recorded weights, by their names in transformers 4.39 (on the hub).
EXTENDED = {
    "llava": (CustomLlavaForConditionalGeneration, "llava15_a/backbone"),
    "llava_next": (CustomLlavaNextForConditionalGeneration, "llava_next_a/backbone"),
    "qwen2_5_vl": (CustomQwenForConditionalGeneration, "qwen25vl_a/backbone"),
    "clip": (CLIPVisionModel, "hpt_clip_a/backbone/visual_encoder"),
    "siglip": (SiglipVisionModel, "hpt_siglip_a/backbone/visual_encoder"),
}


class TinyLlama(CheckedLoading, LlamaForCausalLM):
    pass


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return TinyLlama(LlamaConfig(vocab_size=200, **sizes))


@pytest.mark.parametrize(("name", "shards"), LAYOUTS)
def test_every_layout_is_read(llama, name, shards, tmp_path, capsys):
    llama.config.save_pretrained(tmp_path)
    write_weights(llama.state_dict(), tmp_path, name, shards)
    weights, expected = read_weights(tmp_path), llama.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], value) for key, value in expected.items())
    loaded = TinyLlama.from_pretrained(str(tmp_path))
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert f"loaded {len(expected)} of {len(expected)} tensors, 0 missing, 0 unexpected" in capsys.readouterr().out


@pytest.mark.parametrize("family", EXTENDED)
def test_names_of_every_transformers_version_are_read(family, tmp_path, capsys):
    """Those of 4.39, of the modules of 4.57 and 5, and what 5 saves: nothing is missing, values are the same."""
    model_class, folder = EXTENDED[family]
    model = model_class.from_pretrained(str(GOLDEN / folder), dtype=torch.float32)
    expected = model.state_dict()
    for version, names in (("4.57", names_in_4_57), ("5", dict)):
        (tmp_path / version).mkdir()
        model.config.save_pretrained(tmp_path / version)
        write_weights(names(expected), tmp_path / version)
    model.save_pretrained(tmp_path / "saved")
    for version in ("4.57", "5", "saved"):
        loaded = model_class.from_pretrained(str(tmp_path / version)).state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in expected.items()), version
    lines = [line for line in capsys.readouterr().out.splitlines() if " from " in line]
    assert [line.split(": ")[1] for line in lines] == [
        f"loaded {len(expected)} of {len(expected)} tensors, 0 missing, 0 unexpected"
    ] * 4


def names_in_4_57(weights):
    """Up to version 4, towers held their modules in a `vision_model`."""
    inner = "(embeddings|pre_layrnorm|encoder|post_layernorm)"
    return {re.sub(rf"^(model.vision_tower.|){inner}", r"\1vision_model.\2", key): t for key, t in weights.items()}


def test_bin_files_from_before_torch_1_6(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(tmp_path)["a"], torch.ones(2))


def test_transformers_models_with_missing_weights_are_refused(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors have no value .*\(model.layers.1.mlp.up_proj.weight\)"):
        TinyLlama.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("ignored", [False, True])
def test_transformers_models_with_weights_of_another_shape_are_refused(llama, ignored, tmp_path):
    """Also where transformers is told to leave such weights random."""
    llama.save_pretrained(tmp_path)
    config = LlamaConfig.from_pretrained(tmp_path, vocab_size=208)
    with pytest.raises(ValueError, match=rf"{tmp_path}: 2 tensors have another shape .*lm_head.weight is"):
        TinyLlama.from_pretrained(str(tmp_path), config=config, ignore_mismatched_sizes=ignored)


def test_the_hub_is_asked_for_the_revision_that_is_named(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *name, **how: asked.append(how) or tmp_path)
    find_folder("owner/name", **where_in({"revision": "abc", "token": "t", "torch_dtype": torch.float32}))
    assert asked == [{"allow_patterns": None, "revision": "abc", "token": "t"}]


@pytest.mark.parametrize("dtype", [torch.bfloat16, "torch.bfloat16"])  # the latter in a config that MMEngine writes
def test_loading_info_is_still_available(llama, tmp_path, dtype):
    llama.save_pretrained(tmp_path)
    model, info = TinyLlama.from_pretrained(str(tmp_path), output_loading_info=True, dtype=dtype)
    assert model.dtype == torch.bfloat16
    assert not info["missing_keys"]


def test_a_missing_shard_is_named(llama, tmp_path):
    llama.save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    count = len(set(json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"].values()))
    with pytest.raises(FileNotFoundError, match=rf"names {count} shards, 1 of them are missing: \['{shard.name}'\]"):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_weight_file_of_another_kind_is_named_with_its_beginning(name, tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (tmp_path / name).write_bytes(pointer)
    with pytest.raises(ValueError, match=rf"{name} \({len(pointer)} bytes, beginning with b'version https://git-lfs"):
        read_weights(tmp_path)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights; looked for model\.safetensors and pytorch_model\.bin"):
        read_weights(tmp_path)


def test_folders(tmp_path):
    (tmp_path / "llm").mkdir()
    assert find_folder(tmp_path, "llm") == tmp_path / "llm"
    with pytest.raises(FileNotFoundError, match=r"no sub-folder 'projector' \(it has \['llm'\]\)"):
        find_folder(tmp_path, "projector")
    with pytest.raises(FileNotFoundError, match="no/such/model: neither a local folder nor a repository"):
        find_folder("no/such/model")


def test_a_folder_without_config_or_weights(llama, tmp_path):
    """transformers would take the sizes of a released model instead of a missing config.json."""
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}: there is no config\.json.*complete local folder"):
        TinyLlama.from_pretrained(str(tmp_path))
    llama.config.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file named .*model\.safetensors.*complete local folder"):
        TinyLlama.from_pretrained(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no/such/model: .*network"):
        TinyLlama.from_pretrained(str(tmp_path / "no/such/model"))


def test_another_models_repository(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    for cls, needed in ((CustomLlavaForConditionalGeneration, "llava"), (CLIPVisionModel, "clip_vision_model")):
        with pytest.raises(ValueError, match=rf"{tmp_path} holds a 'llama', but a '{needed}' is needed: name"):
            cls.from_pretrained(str(tmp_path))


def test_a_part_of_a_repository_may_be_the_model(tmp_path):
    """openai/clip-... describes a text tower as well."""
    (tmp_path / "config.json").write_text(
        '{"model_type": "clip", "vision_config": {"model_type": "clip_vision_model"}}'
    )
    assert repository_config(tmp_path, "clip_vision_model")["model_type"] == "clip"


def test_missing_remote_code(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "another", "auto_map": {"AutoConfig": "configuration_another.AnotherConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        LanguageModel.from_pretrained(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"file named configuration_another\.py.*\.py files that config\.json"):
        LanguageModel.from_pretrained(str(tmp_path), trust_remote_code=True)


def test_load_into_renames_drops_and_reports(capsys):
    model = nn.Sequential(nn.Linear(2, 3))
    weights = {
        "tower.weight": torch.ones(3, 2),
        "tower.bias": torch.zeros(3),
        "ema.bias": torch.ones(3),
        "x": torch.ones(1),
    }
    names = {"tower.weight": "0.weight", "tower.bias": "0.bias", "ema.bias": None}
    load_into(model, weights, rename=lambda key: names.get(key, key), name="tower")
    assert torch.equal(model[0].weight, weights["tower.weight"])
    assert torch.equal(model[0].bias, weights["tower.bias"])
    assert capsys.readouterr().out == "tower: loaded 2 of 2 tensors, 0 missing, 1 unexpected (x)\n"


def test_load_into_refuses_what_is_missing_unless_ignored(capsys):
    model = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"Sequential: 1 tensors have no value in the weight files \(0.bias\)"):
        load_into(model, {"0.weight": torch.ones(3, 2)})
    load_into(model, {"0.weight": torch.ones(3, 2)}, ignore=("0.b",))
    assert "loaded 1 of 2 tensors, 0 missing" in capsys.readouterr().out.splitlines()[-1]


def test_load_into_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"1 tensors have another shape .*0.weight is \[2, 3\], needed \[3, 2\]"):
        load_into(nn.Sequential(nn.Linear(2, 3)), {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(3)})
