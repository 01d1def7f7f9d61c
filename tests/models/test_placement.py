"""Where and in how many bits an LMM's weights lie is passed through to transformers, for every family's own loader."""

from copy import deepcopy
from importlib.util import find_spec

import pytest
import torch
from families import ROOT, build, picture

from flmm.config import TINY_CHECKPOINT, TINY_CONFIG, build_model, read_config, sample_settings
from flmm.datasets.sample import SampleBuilder

TEXT, PHRASES = "a ball on the grass", ["a ball", "grass"]
QUANTISED = find_spec("bitsandbytes") is not None
FOUR_BITS = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float32"}
# one for each way of loading: transformers' own, from a state dict, three models, AutoModelForImageTextToText
LOADERS = ("llava15", "deepseek_1b", "mgm_gemma", "hpt_clip", "qwen2_5_vl", "internvl3")


@pytest.fixture(scope="module", params=LOADERS)
def family(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield build(request.param, root)


def placed(family, **placement):
    """The family's model, its LMM loaded with further keywords."""
    settings = deepcopy(family.config)
    settings.model.update(sam=None)
    settings.model["llm" if "llm" in settings.model else "model"].update(dtype=torch.float32, **placement)
    return build_model(settings)


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, "auto"], ids=str)
def test_a_device_map_changes_nothing_but_the_place(family, device_map):
    sample = family.builder.ground(picture(), TEXT, PHRASES)
    plain, mapped = placed(family), placed(family, device_map=device_map)
    (expected,), (reading,) = plain.read([sample]), mapped.read([sample])
    torch.testing.assert_close(reading.attention, expected.attention)
    torch.testing.assert_close(reading.hidden, expected.hidden)


def test_a_device_map_reaches_transformers(family):
    with pytest.raises((RuntimeError, ValueError), match="nowhere"):
        placed(family, device_map="nowhere")


def test_a_part_that_is_spread_stays_where_it_is(family):
    """HPT loads three parts, of which only the decoder is ever spread."""
    backbone = placed(family).backbone
    spread = getattr(backbone.model, "llm", backbone.model)
    spread.hf_device_map = {"model": 0, "lm_head": 1}
    backbone.to(torch.bfloat16)
    stayed = {id(parameter) for parameter in spread.parameters()}
    for parameter in backbone.parameters():
        assert parameter.dtype == (torch.float32 if id(parameter) in stayed else torch.bfloat16)


@pytest.mark.parametrize("family", ["hpt_clip"], indirect=True)
def test_a_decoder_that_lies_on_disk_in_part(family, tmp_path):
    sample = family.builder.ground(picture(), TEXT, PHRASES)
    plain = placed(family)
    names = [name for name, module in plain.backbone.model.llm.named_modules() if not any(module.children())]
    places = {name: "disk" if "layers.0." in name else "cpu" for name in names}
    spread = placed(family, device_map=places, offload_folder=str(tmp_path))
    (expected,), (reading,) = plain.read([sample]), spread.read([sample])
    torch.testing.assert_close(reading.attention, expected.attention)


def test_rotary_frequencies_stay_exact(family):
    """As when transformers loads in half precision; DeepSpeed casts a whole model."""
    backbone = placed(family).backbone
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers() if name.endswith("inv_freq")}
    backbone.to(torch.bfloat16)
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.bfloat16}
    after = dict(backbone.named_buffers())
    assert before
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.skipif(QUANTISED, reason="bitsandbytes is there")
def test_four_bits_need_bitsandbytes(family):
    with pytest.raises(FileNotFoundError, match="pip install bitsandbytes"):
        placed(family, quantization_config=FOUR_BITS)


@pytest.mark.skipif(not QUANTISED, reason="needs bitsandbytes")
@pytest.mark.parametrize("bits", [FOUR_BITS, {"load_in_8bit": True}], ids=["4", "8"])
def test_quantised_weights_stay_so_when_the_model_is_cast(bits, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = read_config(TINY_CONFIG)
    sample = SampleBuilder(**sample_settings(config)).ground(picture((96, 96)), "a red circle", ["a red circle"])
    (plain,) = build_model(config, TINY_CHECKPOINT).read([sample])
    config.model.model.update(quantization_config=bits)
    model = build_model(config, TINY_CHECKPOINT)
    for _ in range(2):
        layers = [type(module).__name__ for module in model.backbone.modules()]
        assert layers.count("Linear4bit") + layers.count("Linear8bitLt") == 60
        (reading,) = model.read([sample])
        torch.testing.assert_close(reading.hidden.float(), plain.hidden, atol=0.15 * plain.hidden.abs().max(), rtol=0)
        assert model(sample, mode="predict").isfinite().all()
        model.to(torch.bfloat16)
