import json
from shutil import copy, copytree

import pytest
import torch
from golden_cases import GOLDEN, GoldenCase, golden_names
from hub_files import HUB
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


def test_the_tower_of_a_released_repository_sees_normalized_pixels(case, model, tmp_path):
    """The hub's preprocessor_config.json says do_normalize: false; pixel_mean and pixel_std are the tower's."""
    folder, hub = tmp_path, HUB / "deepseek-ai__deepseek-vl-1.3b-chat"
    copytree(case.dir / "backbone", folder, dirs_exist_ok=True)
    copy(hub / "preprocessor_config.json", folder)
    config = json.loads((folder / "config.json").read_text())
    params = json.loads((hub / "config.json").read_text())["vision_config"]["params"]
    config["vision_config"]["params"] |= {key: params[key] for key in ("pixel_mean", "pixel_std")}
    (folder / "config.json").write_text(json.dumps(config))

    released = MultiModalityCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    image = Image.radial_gradient("L").resize((300, 200)).convert("RGB")
    (raw,) = VLMImageProcessor.from_pretrained(folder).preprocess(image)["pixel_values"]
    (normalized,) = VLMImageProcessor(384, image_mean=[0.5] * 3, image_std=[0.5] * 3).preprocess(image)["pixel_values"]
    assert raw.min() >= 0
    with torch.no_grad():
        features = released.image_features(torch.from_numpy(raw)[None])
        expected = model.backbone.model.image_features(torch.from_numpy(normalized)[None])
        unnormalized = model.backbone.model.image_features(torch.from_numpy(raw)[None])
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert (unnormalized - expected).norm() > 0.1 * expected.norm()


def test_tokenizer_of_another_model(case):
    other = AutoTokenizer.from_pretrained(GOLDEN / "comp_datasets" / "tokenizer_plain")
    with pytest.raises(ValueError, match="no '<image_placeholder>'"):
        placeholder_id(other)
