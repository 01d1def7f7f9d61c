import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig

from llava import CustomLlavaNextForConditionalGeneration

GOLDEN = Path(__file__).parents[1] / "golden"
ANYRES = json.loads((GOLDEN / "comp_anyres/case.json").read_text())
REPOSITORY = GOLDEN / "llava_next_a/backbone"  # written by transformers 4.39: the key names of the hub


def tiny_llava_next(image_size: int, pinpoints: list[list[int]]) -> CustomLlavaNextForConditionalGeneration:
    sizes = {"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(hidden_size=8, image_size=image_size, patch_size=14, **sizes),
        text_config=LlamaConfig(hidden_size=8, vocab_size=16, **sizes),
        image_grid_pinpoints=pinpoints,
        image_token_index=9,
    )
    return CustomLlavaNextForConditionalGeneration(config)


@pytest.fixture(scope="module")
def model():
    return tiny_llava_next(ANYRES["vision_image_size"], ANYRES["image_grid_pinpoints"])


def test_grids_equal_the_recorded_ones(model):
    for row in ANYRES["rows"]:
        coarse, fine = model.view_positions((row[0], row[1]))
        assert coarse.shape == (24, 24)
        assert list(fine.shape) == row[4:6], row[:2]


class PatchColours(nn.Module):
    """Instead of a vision tower: the mean colour of each patch, behind a class token."""

    def forward(self, pixel_values, **_):
        patches = nn.functional.avg_pool2d(pixel_values, 14).flatten(2).transpose(1, 2)
        features = torch.cat([torch.full_like(patches[:, :1], -7), patches], dim=1)
        return SimpleNamespace(hidden_states=[features] * 3)


@pytest.mark.parametrize("size", [(70, 121), (121, 70), (100, 100), (40, 150), (150, 40)])
def test_positions_point_at_their_own_place_in_the_picture(size):
    model = tiny_llava_next(56, [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]])
    model.model.vision_tower = PatchColours()
    model.model.multi_modal_projector = nn.Identity()
    model.model.image_newline = nn.Parameter(torch.full((3,), -9.0))
    coarse, fine = model.view_positions(size)
    rows, columns = (max(1, side // 56) for side in frame_of(size))
    y, x = torch.meshgrid(torch.arange(rows * 56.0), torch.arange(columns * 56.0), indexing="ij")
    frame = torch.stack([y, x, torch.ones_like(x)])  # every pixel names its own row and column
    tiles = frame.view(3, rows, 56, columns, 56).permute(1, 3, 0, 2, 4).flatten(0, 1)
    features = model.packed_features(torch.cat([torch.zeros(1, 3, 56, 56), tiles]), size)
    assert torch.equal(features[coarse], torch.zeros(4, 4, 3))
    top, left = (rows * 4 - fine.shape[0]) // 2, (columns * 4 - fine.shape[1]) // 2
    expected_y = (torch.arange(fine.shape[0]) + top) * 14 + 6.5
    expected_x = (torch.arange(fine.shape[1]) + left) * 14 + 6.5
    torch.testing.assert_close(features[fine][..., 0], expected_y[:, None].expand(fine.shape))
    torch.testing.assert_close(features[fine][..., 1], expected_x.expand(fine.shape))
    newlines = sorted(set(range(len(features))) - set(coarse.flatten().tolist()) - set(fine.flatten().tolist()))
    assert len(newlines) == fine.shape[0]
    assert torch.equal(features[newlines], torch.full((len(newlines), 3), -9.0))


def frame_of(size: tuple[int, int]) -> tuple[int, int]:
    return {(70, 121): (112, 112), (121, 70): (112, 112), (100, 100): (112, 112), (40, 150): (56, 168)}.get(
        size, (168, 56)
    )


def test_pictures_too_narrow_for_the_grid_are_refused(model):
    with pytest.raises(ValueError, match=r"4 x 2000 \(height x width\) leaves 0 x 72 features in its 1 x 3 tiles"):
        model.view_positions((4, 2000))


@pytest.mark.parametrize("shape", [(3, 336, 336), (3, 3, 336, 336), (5, 3, 384, 384)])
def test_pixels_of_another_processor_are_refused(model, shape):
    with pytest.raises(ValueError, match=r"reads an image of 480 x 640 .* as \[5, 3, 336, 336\]"):
        model.packed_features(torch.zeros(shape), (480, 640))


def test_the_hubs_key_names_and_shards_are_read(tmp_path):
    weights = load_file(REPOSITORY / "model.safetensors")
    assert any(key.startswith("language_model.model.") for key in weights)
    (tmp_path / "config.json").write_text((REPOSITORY / "config.json").read_text())
    shards = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(sorted(weights))}
    for shard in set(shards.values()):
        save_file({k: v for k, v in weights.items() if shards[k] == shard}, tmp_path / shard, metadata={"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    model = CustomLlavaNextForConditionalGeneration.from_pretrained(str(tmp_path), dtype=torch.float32)
    assert torch.equal(model.model.image_newline, weights["image_newline"].float())
    assert torch.equal(model.lm_head.weight, weights["language_model.lm_head.weight"].float())
    name = "language_model.model.layers.1.self_attn.q_proj.weight"
    layer = model.model.language_model.layers[1]
    assert torch.equal(layer.self_attn.q_proj.weight, weights[name].float())


def test_a_repository_without_the_newline_is_refused(tmp_path):
    weights = load_file(REPOSITORY / "model.safetensors")
    del weights["image_newline"]
    (tmp_path / "config.json").write_text((REPOSITORY / "config.json").read_text())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors have no value .*image_newline"):
        CustomLlavaNextForConditionalGeneration.from_pretrained(str(tmp_path))
