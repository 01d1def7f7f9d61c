import pytest
import timm
import torch
from mgm_repository import AUX, CLIP, Repository, picture

from mgm.model.towers import OpenCLIPVisionTower, trunk_shape

QUERY = "model.vlm_uni_query_projector.1.weight"


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "hub")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    repository = Repository(tmp_path_factory.mktemp("hub"))
    repository.write()
    return features(repository.load())


def features(model):
    return model.encode_images(*model.process_images([picture()]))


@pytest.mark.parametrize(
    ("layout", "shards"), [("model.safetensors", 2), ("pytorch_model.bin", 1), ("pytorch_model.bin", 3)]
)
def test_reads_every_layout(repository, expected, layout, shards, capsys):
    repository.write(layout, shards)
    repository.open_clip_as_bin()
    model = repository.load()
    assert torch.equal(features(model), expected)
    assert "0 missing, 0 unexpected" in capsys.readouterr().out.splitlines()[-1]
    assert model.generation_config.eos_token_id == 2
    assert not model.training


def test_towers_inside_the_repository_are_found_by_their_relative_name(repository, expected):
    for tower in (CLIP, AUX):
        (repository.root / tower).rename(repository.folder / tower)
    repository.write()
    assert torch.equal(features(repository.load(mm_vision_tower=CLIP, mm_vision_tower_aux=AUX)), expected)


def test_clip_of_the_checkpoint_goes_before_its_own_repository(repository, expected):
    """Whichever shard it lies in: here none of the shards is chosen for the other vision weights."""
    own = {k: v for k, v in repository.tower_weights().items() if k.startswith("model.vision_tower.")}
    repository.weights |= {key: value * 2 for key, value in own.items()}
    repository.write("pytorch_model.bin", shards=3)
    model = repository.load()
    assert not torch.allclose(features(model), expected, atol=1e-2)
    loaded = model.model.vision_tower.vision_tower.embeddings.class_embedding
    key = "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding"
    assert torch.equal(loaded, own[key].float() * 2)


@pytest.mark.parametrize("trained", [False, True])
def test_convnext_of_the_checkpoint_counts_only_when_it_was_trained(repository, expected, trained):
    own = {k: v for k, v in repository.tower_weights().items() if k.startswith("model.vision_tower_aux.")}
    repository.weights |= {key: value * 2 for key, value in own.items()}
    repository.write()
    found = features(repository.load(optimize_vision_tower_aux=trained))
    assert torch.equal(found, expected) is not trained


def test_asking_for_hidden_states_leaves_the_picture_as_it_is(repository, expected):
    """transformers 5 records layers by hooks, and sets them twice in a tower inside a language model."""
    repository.write()
    model = repository.load()
    model.model(inputs_embeds=torch.zeros(1, 3, model.config.hidden_size), output_hidden_states=True)
    assert torch.equal(features(model), expected)


def test_missing_weights_are_refused(repository):
    del repository.weights[QUERY]
    repository.write()
    with pytest.raises(ValueError, match=QUERY.replace(".", r"\.")):
        repository.load()


def test_incomplete_clip_in_the_checkpoint_is_refused(repository):
    clip = repository.tower_weights()
    key = "model.vision_tower.vision_tower.vision_model.pre_layrnorm.weight"
    repository.weights[key] = clip[key]
    repository.write()
    with pytest.raises(ValueError, match="54 tensors have no value"):
        repository.load()


def test_missing_shard_is_named(repository):
    repository.write(shards=2)
    (repository.folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        repository.load()


def test_tower_folder_of_the_authors_comes_with_the_cure(repository):
    repository.write()
    with pytest.raises(FileNotFoundError, match="openai/clip-vit-large-patch14-336"):
        repository.load(mm_vision_tower="model_zoo/OpenAI/clip-vit-large-patch14-336")


def test_tower_without_weights_is_named(repository):
    repository.write()
    (repository.root / AUX / "open_clip_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"open_clip_pytorch_model\.bin"):
        repository.load()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mm_hidden_size_aux", 2880, "the tower has 56 channels"),
        ("image_size_aux", 200, "multiple of 24"),
        ("mm_projector_type", "qformer", "mlp2x_gelu"),
        ("mm_vision_select_feature", "cls_patch", "only 'patch'"),
    ],
)
def test_config_that_does_not_fit_is_refused(repository, field, value, message):
    repository.write()
    with pytest.raises(ValueError, match=message):
        repository.load(**{field: value})


def test_convnext_is_the_one_that_open_clip_builds(monkeypatch):
    """OpenCLIP's convnext_large_d_320 has timm's convnext_large_mlp as trunk."""
    monkeypatch.setattr("timm.models.convnext._init_weights", lambda *args, **kwargs: None)  # slow on meta tensors
    with torch.device("meta"):
        trunk = timm.create_model("convnext_large_mlp", num_classes=0)
        weights = {key: value for key, value in trunk.state_dict().items() if key.startswith(("stem.", "stages."))}
        depths, dims = trunk_shape(weights)
        tower = OpenCLIPVisionTower(depths, dims)
    assert (depths, dims) == ([3, 3, 27, 3], [192, 384, 768, 1536])
    shapes = {f"vision_{key}": value.shape for key, value in weights.items()}
    assert {key: value.shape for key, value in tower.state_dict().items()} == shapes


def test_gemma_keeps_the_activation_of_the_reference(repository):
    repository.write()
    config = repository.folder / "config.json"
    released = config.read_text().replace('"hidden_act": "gelu_pytorch_tanh"', '"hidden_act": "gelu"')
    config.write_text(released.replace('"hidden_activation": "gelu_pytorch_tanh",', ""))
    assert repository.load().config.hidden_act == "gelu_pytorch_tanh"


def test_bfloat16_reaches_the_towers(repository, expected):
    repository.write()
    found = features(repository.load(dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    error = (found.float() - expected).abs().max() / expected.abs().max()
    assert error < 0.03
