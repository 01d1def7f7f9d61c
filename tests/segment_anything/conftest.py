"""Pairs of our SAM and the PyPI package's, with the same random weights."""

import importlib.util
import sys
from functools import partial
from importlib import metadata
from types import ModuleType

import pytest
import torch
from torch import nn

from segment_anything.build_sam import build_vit_sam

NANO = {
    "encoder_embed_dim": 96,
    "encoder_depth": 4,
    "encoder_num_heads": 4,
    "encoder_global_attn_indexes": (1, 3),
    "image_size": 256,
    "vit_patch_size": 8,
    "window_size": 8,
    "prompt_embed_dim": 128,
    "transformer_mlp_dim": 512,
}
# 20 x 20 patches in windows of 14: the windows at the bottom and the right are padded
PADDED = {
    "encoder_embed_dim": 32,
    "encoder_depth": 2,
    "encoder_num_heads": 2,
    "encoder_global_attn_indexes": (1,),
    "image_size": 160,
    "vit_patch_size": 8,
    "window_size": 14,
    "prompt_embed_dim": 64,
    "transformer_mlp_dim": 128,
}


@pytest.fixture(scope="session")
def official() -> ModuleType:
    """The package segment-anything 1.0, which bears the name of ours, under another."""
    if "official_sam" not in sys.modules:  # a benchmark that ran in this process may have brought it
        path = metadata.distribution("segment-anything").locate_file("segment_anything")
        spec = importlib.util.spec_from_file_location(
            "official_sam", path / "__init__.py", submodule_search_locations=[str(path)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["official_sam"] = module
        spec.loader.exec_module(module)
    module = sys.modules["official_sam"]
    for name in ("utils.amg", "utils.onnx", "utils.transforms"):
        importlib.import_module(f"official_sam.{name}")
    return module


@pytest.fixture(scope="session", params=[NANO, PADDED], ids=["nano", "padded"])
def pair(request, official):
    """Our SAM and the official one."""
    return make_pair(request.param, official)


@pytest.fixture(scope="session")
def padded_pair(official):
    """The faster of the pairs."""
    return make_pair(PADDED, official)


def make_pair(dims, official):
    with torch.random.fork_rng():  # some weights keep what they are made with
        torch.manual_seed(3)
        ours = build_vit_sam(**dims)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in ours.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:  # zero when new: would hide any mistake
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        elif parameter.ndim > 1:  # fan-in noise: prompts must move the masks
            fan_in = parameter[0].numel() if "embed" not in name else 1
            parameter.data = torch.randn(parameter.shape, generator=generator) * fan_in**-0.5
    theirs = build_official(dims, official.modeling)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def build_official(dims, modeling):
    side, stride, width = dims["image_size"], dims["vit_patch_size"], dims["prompt_embed_dim"]
    encoder = modeling.ImageEncoderViT(
        img_size=side,
        patch_size=stride,
        embed_dim=dims["encoder_embed_dim"],
        depth=dims["encoder_depth"],
        num_heads=dims["encoder_num_heads"],
        out_chans=width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=dims["window_size"],
        global_attn_indexes=dims["encoder_global_attn_indexes"],
    )
    prompt_encoder = modeling.PromptEncoder(width, (side // stride,) * 2, (side, side), mask_in_chans=16)
    transformer = modeling.TwoWayTransformer(2, width, 8, dims["transformer_mlp_dim"])
    decoder = modeling.MaskDecoder(transformer_dim=width, transformer=transformer)
    return modeling.Sam(encoder, prompt_encoder, decoder).eval()


@pytest.fixture(scope="session")
def close():
    """Compare to 1e-5 of the largest value."""

    def compare(ours, theirs):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(float(theirs.abs().max()), 1e-3))

    return compare


@pytest.fixture(scope="session")
def picture():
    """A random picture with smooth blobs, uint8 [120, 170, 3]."""
    noise = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(1)) * 255
    smooth = nn.functional.interpolate(noise, (120, 170), mode="bicubic").clamp(0, 255)
    return smooth[0].permute(1, 2, 0).to(torch.uint8).numpy()
