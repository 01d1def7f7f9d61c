import pytest
import torch
from golden_cases import GOLDEN, GoldenCase, golden_names
from parity import assert_parity
from PIL import Image
from transformers import AutoTokenizer

from deepseek_vl.models import MultiModalityCausalLM, VLMImageProcessor
from flmm.datasets.sample import SampleBuilder
from flmm.models.frozen_deepseek_vl import IMAGE_TOKEN, FrozenDeepseekVLSAM, placeholder_id


def build(case: GoldenCase) -> FrozenDeepseekVLSAM:
    folder = {"pretrained_model_name_or_path": str(case.dir / "backbone")}
    lmm = {"type": MultiModalityCausalLM.from_pretrained, **folder, "dtype": torch.float32}
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


def test_tokenizer_of_another_model(case):
    other = AutoTokenizer.from_pretrained(GOLDEN / "comp_datasets" / "tokenizer_plain")
    with pytest.raises(ValueError, match="no '<image_placeholder>'"):
        placeholder_id(other)
