import pytest
import torch
from golden_cases import GOLDEN, GoldenCase, golden_names, relative_error
from parity import assert_parity
from PIL import Image
from transformers import AutoTokenizer

from deepseek_vl.models import MultiModalityCausalLM, VLMImageProcessor
from flmm.datasets.sample import SampleBuilder
from flmm.grid_check import check_grid
from flmm.models.frozen_deepseek_vl import IMAGE_TOKEN, FrozenDeepseekVLSAM, placeholder_id
from flmm.models.frozen_lmm import FrozenLMM


def build(case: GoldenCase) -> FrozenDeepseekVLSAM:
    folder = {"pretrained_model_name_or_path": str(case.dir / "backbone")}
    lmm = {"type": MultiModalityCausalLM.from_pretrained, **folder, "torch_dtype": torch.float32}
    tokenizer = {"type": AutoTokenizer.from_pretrained, **folder}
    return FrozenDeepseekVLSAM(model=lmm, tokenizer=tokenizer, **case.head_config())


@pytest.mark.parametrize("name", golden_names("deepseek"))
def test_parity(name):
    case = GoldenCase(name)
    assert_parity(case, build(case))


@pytest.fixture(scope="module")
def case():
    return GoldenCase(golden_names("deepseek_1b")[0])


@pytest.fixture(scope="module")
def model(case):
    return build(case).eval()


def test_the_view_lies_on_the_placeholders(case, model):
    sample = case.samples()[0]
    (view,) = model.backbone.tokens(sample).views
    assert view.shape == (24, 24)
    assert torch.equal(view.flatten(), (sample["input_ids"] == case.case["image_token_id"]).nonzero().flatten())


def test_wrong_number_of_placeholders(case, model):
    sample = case.samples()[0]
    sample |= {key: sample[key][10:] for key in ("input_ids", "mask_ids")}
    with pytest.raises(ValueError, match="570 image tokens .* 24 x 24"):
        model.backbone.tokens(sample)


@pytest.fixture(scope="module")
def builder(case):
    return SampleBuilder(
        image_processor=VLMImageProcessor.from_pretrained(case.dir / "backbone"),
        tokenizer=AutoTokenizer.from_pretrained(case.dir / "backbone"),
        prompt_template={"INSTRUCTION": "User: {input}\n\nAssistant:"},
        prompt=IMAGE_TOKEN * 576 + "Please give me a description of the image.",
        image_token=IMAGE_TOKEN,
    )


@pytest.mark.parametrize("size", [(300, 1), (20, 30)])
def test_pictures_of_any_shape(builder, model, size):
    image = Image.new("RGB", size, (200, 10, 10))
    output = model(builder.ground(image, "a ball on grass", ["a ball", "grass"]), mode="tensor")
    assert output["mask_attentions"].shape == (2, 12, 24, 24)
    assert output["sam_pred_masks"].shape == (2, size[1], size[0])


def test_a_bright_square_lights_up_at_its_own_place(model, builder):
    for size in ((640, 416), (300, 500)):
        assert all(place.agrees for place in check_grid(model.backbone, builder, size))


def test_attention_is_what_eager_attention_says(case, model):
    tokens = model.backbone.tokens(case.samples()[0])
    decoder = model.backbone.decoder
    (reading,) = model.read.read([tokens])
    decoder.config._attn_implementation = "eager"
    maps = decoder(**tokens.inputs, output_attentions=True, use_cache=False).attentions
    decoder.config._attn_implementation = "sdpa"
    expected = torch.stack([layer[0, :, tokens.mask_ids == 0].mean(1)[:, tokens.views[0]] for layer in maps])
    torch.testing.assert_close(reading.attention[0][:, :, 0], expected, atol=1e-6, rtol=1e-5)


def test_bfloat16_stays_near_float32(case, model):
    sample = case.samples()[0]
    with torch.no_grad():
        exact = model.read([sample])[0]
        lmm = MultiModalityCausalLM.from_pretrained(str(case.dir / "backbone"), torch_dtype=torch.bfloat16)
        backbone = type(model.backbone)(lmm, model.backbone.image_token_id)
        rough = FrozenLMM(backbone, mask_head=None).read([sample])[0]
    assert rough.attention[0].dtype == torch.bfloat16
    assert relative_error(rough.attention[0].float(), exact.attention[0]) < 0.1
    assert relative_error(rough.hidden.float(), exact.hidden) < 0.1


def test_tokenizer_of_another_model(case):
    other = AutoTokenizer.from_pretrained(GOLDEN / "comp_datasets" / "tokenizer_plain")
    with pytest.raises(ValueError, match="no '<image_placeholder>'"):
        placeholder_id(other)
