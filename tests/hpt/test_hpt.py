import json
import shutil
from pathlib import Path

import pytest
import torch
from golden_cases import load_recorded
from remote_projector import write_remote_projector
from safetensors.torch import load_file, save_file
from torch import nn
from weight_files import write_weights

from hpt import HPT, CLIPVisionModel, LanguageModel, ProjectorModel, SiglipVisionModel
from hpt.position_embedding import resize_grid, set_image_size

GOLDEN = Path(__file__).parents[1] / "golden"
TOWERS = {"hpt_clip_a": CLIPVisionModel, "hpt_siglip_a": SiglipVisionModel}


def load(cls, name: str, subfolder: str, root: Path = GOLDEN):
    return cls.from_pretrained(str(root / name / "backbone"), subfolder=subfolder, dtype=torch.float32)


@pytest.fixture
def repository(tmp_path):
    """A copy of the tiny HPT 1.5 repository that may be spoiled."""
    shutil.copytree(GOLDEN / "hpt_siglip_a/backbone", tmp_path / "spoiled/backbone")
    return tmp_path / "spoiled/backbone"


def rewrite(folder: Path, **changes) -> None:
    """Replaces tensors of a folder; None deletes."""
    weights = load_file(folder / "model.safetensors") | changes
    weights = {key: value for key, value in weights.items() if value is not None}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", TOWERS)
def test_position_embeddings_equal_the_recorded_ones(name):
    tower = load(TOWERS[name], name, "visual_encoder")
    set_image_size(tower, json.loads((GOLDEN / name / "case.json").read_text())["image_size"])
    weight = tower.embeddings.position_embedding.weight
    expected = load_recorded(GOLDEN / name / "outputs.safetensors")["position_embedding_after_interpolation"]
    assert weight.shape == expected.shape
    assert torch.equal(weight, weight.half().float())
    # torch 2.1 rounded one of the 800 values of CLIP to the neighbouring float16
    assert ((weight - expected).abs() <= expected.abs() * 2**-10).all()
    assert int((weight != expected).sum()) <= 1


def test_rows_and_columns_of_the_grid_keep_their_places():
    ramp = torch.arange(6.0)[:, None].expand(6, 6)
    weight = torch.stack([ramp.flatten(), ramp.T.flatten()], dim=1)  # [36, 2]: row and column of each patch
    down, right = resize_grid(weight, 13).T.view(2, 13, 13)
    torch.testing.assert_close(down, right.T)
    assert (down.diff(dim=0) > 0.2).all()
    assert down.diff(dim=1).abs().max() < 1e-5
    torch.testing.assert_close(down + down.flip(0), torch.full((13, 13), 5.0))


@pytest.mark.parametrize("size", [0, 85])
def test_image_sizes_that_patches_do_not_fill(size):
    with pytest.raises(ValueError, match=f"image_size={size} is not a multiple of the 14 pixels"):
        set_image_size(load(SiglipVisionModel, "hpt_siglip_a", "visual_encoder"), size)


@pytest.mark.parametrize("name", TOWERS)
def test_features_are_those_of_the_selected_layer_without_the_class_token(name):
    tower = load(TOWERS[name], name, "visual_encoder").eval()
    llm = load(LanguageModel, name, "llm")
    hpt = HPT(llm, tower, nn.Identity(), image_size=70, visual_select_layer=-2)
    pixels = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = hpt.image_features(pixels)
        hidden = tower(pixels, output_hidden_states=True).hidden_states
    assert features.shape == (2, 25, 32)
    assert torch.equal(features, hidden[len(hidden) - 2][:, hidden[0].shape[1] - 25 :])


def test_images_of_another_size_are_refused():
    parts = [load(c, "hpt_siglip_a", f) for c, f in ((LanguageModel, "llm"), (SiglipVisionModel, "visual_encoder"))]
    hpt = HPT(*parts, load(ProjectorModel, "hpt_siglip_a", "projector"), image_size=84)
    with pytest.raises(
        ValueError, match=r"pixel_values is \[1, 3, 70, 70\], but this HPT reads images of \[3, 84, 84\]"
    ):
        hpt.image_features(torch.zeros(1, 3, 70, 70))


def test_siglip_repositories_with_and_without_the_pooling_head(repository):
    folder = repository / "visual_encoder"
    head = {key: None for key in load_file(folder / "model.safetensors") if ".head." in key}
    assert head
    rewrite(folder, **head)
    expected = load(SiglipVisionModel, "hpt_siglip_a", "visual_encoder").state_dict()
    loaded = load(SiglipVisionModel, "spoiled", "visual_encoder", root=repository.parents[1]).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in expected.items())
    assert not any(".head." in key for key in expected)


def test_the_projector_needs_no_code_of_the_repository(repository):
    config = json.loads((repository / "projector/config.json").read_text())
    assert "modeling_projector" in config["auto_map"]["AutoModel"]
    assert not list(repository.rglob("*.py"))
    projector = load(ProjectorModel, "spoiled", "projector", root=repository.parents[1])
    weights = {key: value.float() for key, value in load_file(repository / "projector/model.safetensors").items()}
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    inner = nn.functional.gelu(x @ weights["model.0.weight"].T + weights["model.0.bias"])
    torch.testing.assert_close(projector(x), inner @ weights["model.2.weight"].T + weights["model.2.bias"])


def test_a_projector_that_is_code_of_the_repository(repository):
    """As on the hub: a Q-Former that imports what transformers moved, and loads a part of its own while it is built."""
    folder = repository / "projector"
    shutil.rmtree(folder)
    weights = write_remote_projector(folder, visual=32, llm=48)
    where = {"pretrained_model_name_or_path": str(repository), "subfolder": "projector", "dtype": torch.float32}
    with pytest.raises(ValueError, match=r"holds a 'hformer'.*modeling_hformer\.HformerModel.*trust_remote_code=True"):
        ProjectorModel.from_pretrained(**where)
    projector = ProjectorModel.from_pretrained(**where, trust_remote_code=True)
    assert all(torch.equal(value, weights[key]) for key, value in projector.state_dict().items())
    parts = [load(c, "hpt_siglip_a", f) for c, f in ((LanguageModel, "llm"), (SiglipVisionModel, "visual_encoder"))]
    hpt = HPT(*parts, projector, image_size=84)
    pixels = torch.randn(2, 3, 84, 84, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = hpt.image_features(pixels)
        seen = hpt.visual_encoder(pixels, output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(features, projector(seen))
    assert features.shape == (2, 36, 48)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        ProjectorModel.from_pretrained(**where, trust_remote_code=True)


def test_projectors_that_lose_the_places_are_refused():
    parts = [load(c, "hpt_siglip_a", f) for c, f in ((LanguageModel, "llm"), (SiglipVisionModel, "visual_encoder"))]
    hpt = HPT(*parts, nn.AdaptiveAvgPool2d((4, None)), image_size=84)
    with pytest.raises(ValueError, match="AdaptiveAvgPool2d makes 4 tokens of 6 x 6 patches"):
        hpt.image_features(torch.zeros(1, 3, 84, 84))


def test_the_language_model_is_read_from_sharded_bin(repository):
    llm = load(LanguageModel, "spoiled", "llm", root=repository.parents[1])
    (repository / "llm/model.safetensors").unlink()
    write_weights(llm.state_dict(), repository / "llm", "pytorch_model.bin", shards=3)
    again = load(LanguageModel, "spoiled", "llm", root=repository.parents[1])
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in llm.state_dict().items())


def test_missing_sub_folders_are_named(repository):
    shutil.rmtree(repository / "projector")
    with pytest.raises(FileNotFoundError, match=r"no sub-folder 'projector' \(it has \['llm', 'visual_encoder'\]\)"):
        load(ProjectorModel, "spoiled", "projector", root=repository.parents[1])


def test_missing_weights_are_refused(repository):
    rewrite(repository / "projector", **{"model.2.bias": None})
    rewrite(repository / "llm", **{"model.norm.weight": None})
    for cls, folder, key in (
        (ProjectorModel, "projector", "model.2.bias"),
        (LanguageModel, "llm", "model.norm.weight"),
    ):
        with pytest.raises(ValueError, match=rf"{folder}: 1 tensors have no value .*\({key}\)"):
            load(cls, "spoiled", folder, root=repository.parents[1])
