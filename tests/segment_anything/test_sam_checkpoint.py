"""The registry and the loading of weights."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from segment_anything import sam_model_registry
from segment_anything.modeling.tiny_vit import rename_mobile_sam_keys


@pytest.fixture(scope="module")
def nano():
    return sam_model_registry["vit_nano"]()


@pytest.mark.parametrize("name", ["default", "vit_h", "vit_l", "vit_b"])
def test_official_names_and_shapes(name, official):
    with torch.device("meta"):
        ours, theirs = sam_model_registry[name](), official.sam_model_registry[name]()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]


def test_nano_has_the_promised_sizes(nano):
    assert nano.image_encoder.img_size == 256
    assert nano.prompt_encoder.mask_input_size == (128, 128)
    assert nano.prompt_encoder.embed_dim == 128
    with torch.no_grad():
        assert nano.image_encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 128, 32, 32)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip(nano, tmp_path, suffix, dtype):
    state = {key: value.to(dtype).contiguous() for key, value in nano.state_dict().items()}
    path = tmp_path / f"nano{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = sam_model_registry["vit_nano"](checkpoint=path).state_dict()
    assert loaded.keys() == state.keys()
    for key, value in loaded.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float()), key


def test_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)nowhere\.pth.*segment_anything/sam_vit_l_0b3195\.pth"):
        sam_model_registry["vit_nano"](checkpoint=tmp_path / "nowhere.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_cut_short_is_refused(nano, tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    state = nano.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"cut\.\w+ \(100,000 bytes\) is not a readable weight file"):
        sam_model_registry["vit_nano"](checkpoint=path)


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


def test_a_file_with_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "code.pth"
    torch.save({"weight": Harmful()}, path)
    with pytest.raises(ValueError, match="not a readable weight file"):
        sam_model_registry["vit_nano"](checkpoint=path)
    assert "executed" not in capsys.readouterr().out
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="not a readable weight file"):
        sam_model_registry["vit_nano"](checkpoint=path)
    assert "executed" not in capsys.readouterr().out


def test_a_file_of_something_else_is_refused(nano, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"optimizer": {"lr": 1}, "epoch": 3}, path)
    with pytest.raises(ValueError, match="plain state dict"):
        sam_model_registry["vit_nano"](checkpoint=path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {**state, "pixel_mean": torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)},
    ],
    ids=["training checkpoint", "parallel", "compiled", "old buffers"],
)
def test_wrapped_weights_are_unwrapped(nano, tmp_path, wrap):
    path = tmp_path / "wrapped.pth"
    torch.save(wrap(dict(nano.state_dict())), path)
    loaded = sam_model_registry["vit_nano"](checkpoint=path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in nano.state_dict().items())


def test_weights_for_other_pixel_statistics_are_refused(nano, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({**nano.state_dict(), "pixel_mean": torch.zeros(3, 1, 1)}, path)
    with pytest.raises(ValueError, match="1 unexpected: pixel_mean"):
        sam_model_registry["vit_nano"](checkpoint=path)


def test_keys_that_do_not_fit_are_reported(nano, tmp_path):
    state = dict(nano.state_dict())
    del state["prompt_encoder.no_mask_embed.weight"]
    state["prompt_encoder.extra"] = torch.zeros(1)
    state["mask_decoder.iou_token.weight"] = torch.zeros(1, 64)
    path = tmp_path / "odd.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"odd\.pth does not fit") as error:
        sam_model_registry["vit_nano"](checkpoint=path)
    message = str(error.value)
    assert "1 missing: prompt_encoder.no_mask_embed.weight" in message
    assert "1 unexpected: prompt_encoder.extra" in message
    assert "1 of another shape: mask_decoder.iou_token.weight [1, 64] instead of [1, 128]" in message


def test_weights_of_another_variant_are_recognised(nano, tmp_path):
    path = tmp_path / "nano.pth"
    torch.save(nano.state_dict(), path)
    with torch.device("meta"), pytest.raises(ValueError, match=r"use sam_model_registry\['vit_nano'\]"):
        sam_model_registry["vit_b"](checkpoint=path)


def test_names_of_mobile_sam():
    names = {
        "image_encoder.patch_embed.seq.0.c.weight": "image_encoder.patch_embed.conv1.conv.weight",
        "image_encoder.patch_embed.seq.2.bn.bias": "image_encoder.patch_embed.conv2.bn.bias",
        "image_encoder.layers.0.blocks.1.conv2.c.weight": "image_encoder.stages.0.blocks.1.conv2.conv.weight",
        "image_encoder.layers.2.downsample.conv2.bn.bias": "image_encoder.stages.3.downsample.conv2.bn.bias",
        "image_encoder.layers.2.blocks.0.attn.qkv.bias": "image_encoder.stages.2.blocks.0.attn.qkv.bias",
        "image_encoder.neck.0.weight": "image_encoder.neck.0.weight",
        "mask_decoder.iou_token.weight": "mask_decoder.iou_token.weight",
    }
    classifier = {"image_encoder.norm_head.weight": 0, "image_encoder.head.bias": 0}
    assert list(rename_mobile_sam_keys(dict.fromkeys(names) | classifier)) == list(names.values())
    with torch.device("meta"):
        own = sam_model_registry["vit_t"]().state_dict()
    assert rename_mobile_sam_keys(own).keys() == own.keys()
    assert set(names.values()) <= own.keys()


def test_weights_that_are_not_finite_are_refused(nano, tmp_path):
    state = {**nano.state_dict(), "mask_decoder.mask_tokens.weight": torch.full((4, 128), float("nan"))}
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(
        ValueError, match=r"nan\.pth: 1 tensors .*mask_tokens.weight holds 512 of 512 values that are NaN"
    ):
        sam_model_registry["vit_nano"](checkpoint=tmp_path / "nan.pth")
