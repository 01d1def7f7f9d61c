"""Every LMM, built from its repository's config.json, has the tensors that the repository holds, and no others."""

from pathlib import Path

import pytest
import torch
from hub_files import read, weights
from lmm_architectures import LMMS
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from deepseek_vl.models.original_format import convert_weights
from flmm.config import read_config, sample_settings

ROOT = Path(__file__).parents[2]
NAMES = [name for name in LMMS if not name.startswith("hpt/")]  # of HPT no config and no index was seen
END = "unet_sam_l_refcoco_png"
# (image tokens' id, layers, heads), as the repositories' own config.json say
READ = {
    "llava/frozen_llava_1_5_vicuna_7b": (32000, 32, 32),
    "llava_next/frozen_llava_next_vicuna_7b": (32000, 32, 32),
    "llava_next/frozen_llava_next_mistral_7b": (32000, 32, 32),
    "deepseek_vl/frozen_deepseek_vl_1_3b_chat": (None, 24, 16),
    "deepseek_vl/frozen_deepseek_vl_7b_chat": (None, 30, 32),
    "mgm/frozen_mgm_gemma_2b": (None, 18, 8),
    "mgm/frozen_mgm_vicuna_7b": (None, 32, 32),
    "mgm/frozen_mgm_vicuna_7b_hd": (None, 32, 32),
    "qwen/frozen_qwen2_5_vl_3b_instruct": (151655, 36, 16),
    "qwen/frozen_qwen2_5_vl_7b_instruct": (151655, 28, 28),
    "hf/frozen_qwen2_vl_7b_instruct": (151655, 28, 28),
    "hf/frozen_qwen3_vl_4b_instruct": (151655, 36, 32),
    "hf/frozen_internvl3_8b": (151667, 28, 28),
    "hf/frozen_llava_onevision_qwen2_7b": (151646, 28, 28),
    "hf/frozen_smolvlm_instruct": (49153, 24, 32),
    "hf/frozen_paligemma_3b_mix_448": (257152, 18, 8),
    "hf/frozen_gemma3_4b_it": (262144, 34, 8),
}


def repository(name: str) -> str:
    """The repository that a leaf config names."""
    config = read_config(ROOT / f"configs/{name}_{END}.py")
    return config.model.model.pretrained_model_name_or_path


def build(name: str) -> nn.Module:
    with torch.device("meta"):
        (model,) = LMMS[name]().values()
    return model


def loaded_names(model: nn.Module, found: dict[str, list[int] | None], repository: str) -> dict[str, list[int] | None]:
    """The hub's names as the loaders spell them for the model."""
    if repository.startswith("deepseek-ai/"):
        tensors = {name: torch.empty(shape, device="meta") for name, shape in found.items()}
        projector = read(repository)["aligner_config"]["params"]["projector_type"]
        return {name: list(value.shape) for name, value in convert_weights(tensors, projector).items()}
    known, base, own = renamings(model), model.base_model_prefix, model.state_dict()
    return {rename_source_key(name, known, [], base, own)[0]: shape for name, shape in found.items()}


def renamings(model: nn.Module) -> list[WeightRenaming]:
    """The names of older files -> in the model, as transformers reads them; no tensor of these LMMs is reshaped."""
    known = get_model_conversion_mapping(model)
    assert all(isinstance(change, WeightRenaming) for change in known)
    return known


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_repository(name):
    hub, model = repository(name), build(name)
    own: dict[str, Tensor] = model.state_dict()
    found = loaded_names(model, weights(hub), hub)
    assert set(found) <= set(own), sorted(set(found) - set(own))[:5]
    assert set(own) - set(found) <= set(model.all_tied_weights_keys), sorted(set(own) - set(found))[:5]
    wrong = {
        key: (shape, list(own[key].shape)) for key, shape in found.items() if shape not in (None, list(own[key].shape))
    }
    assert not wrong
    if size := read(hub, "weights.json").get("total_size"):  # of 16-bit tensors
        assert 2 * sum(own[key].numel() for key in found) == size
    token, layers, heads = READ[name]
    text = model.config.get_text_config()
    assert (text.num_hidden_layers, text.num_attention_heads) == (layers, heads)
    assert token is None or model.config.image_token_id == token


# where a repository says how many tokens a picture, or a tile of it, takes
TOKENS = {
    "deepseek_vl/frozen_deepseek_vl_1_3b_chat": ("processor_config.json", "num_image_tokens", 576),
    "deepseek_vl/frozen_deepseek_vl_7b_chat": ("processor_config.json", "num_image_tokens", 576),
    "hf/frozen_internvl3_8b": ("processor_config.json", "image_seq_length", 256),
    "hf/frozen_llava_onevision_qwen2_7b": ("processor_config.json", "num_image_tokens", 729),
    "hf/frozen_smolvlm_instruct": ("processor_config.json", "image_seq_len", 81),
    "hf/frozen_paligemma_3b_mix_448": ("preprocessor_config.json", "image_seq_length", 1024),
    "hf/frozen_gemma3_4b_it": ("config.json", "mm_tokens_per_image", 256),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_view_has_as_many_tokens_as_the_repository_says(name):
    file, key, count = TOKENS[name]
    assert read(repository(name), file)[key] == count
    config = read_config(ROOT / f"configs/{name}_{END}.py")
    settings, grid = sample_settings(config), config.model.get("grid")
    assert count == (settings["prompt"].count(settings["image_token"]) if grid is None else grid.side**2)
