import pytest
import torch
from golden_cases import GoldenCase, golden_names
from parity import assert_parity
from words import word_tokenizer

from flmm.datasets.llava_next_processors import CustomLlavaNextImageProcessor
from flmm.datasets.sample import SampleBuilder
from flmm.models.frozen_llava_next import FrozenLlavaNextSAM
from llava import CustomLlavaNextForConditionalGeneration

CASES = golden_names("llava_next")
IMAGE_TOKEN = 300


def build(case: GoldenCase) -> FrozenLlavaNextSAM:
    llava = {
        "type": CustomLlavaNextForConditionalGeneration.from_pretrained,
        "pretrained_model_name_or_path": str(case.dir / "backbone"),
        "dtype": torch.float32,
    }
    return FrozenLlavaNextSAM(model=llava, **case.head_config())


@pytest.fixture(scope="module")
def case():
    return GoldenCase(CASES[0])


@pytest.fixture(scope="module")
def model(case):
    return build(case)


@pytest.mark.parametrize("name", CASES)
def test_parity(name):
    case = GoldenCase(name)
    assert_parity(case, build(case))


def test_views_are_disjoint_and_on_image_tokens_only(model, case):
    for sample in case.samples():
        tokens = model.backbone.tokens(sample)
        positions = torch.cat([view.flatten() for view in tokens.views]).tolist()
        assert len(set(positions)) == len(positions)
        start = int((sample["input_ids"] == IMAGE_TOKEN).nonzero())
        rows = len(tokens.views[1])
        assert positions[0] == start
        assert positions[-1] == start + len(positions) + rows - 2  # a newline after each row but the last is inside
        assert (tokens.mask_ids[positions] == -1).all()
        assert len(tokens.mask_ids) == len(sample["input_ids"]) - 1 + len(positions) + rows


def test_sizes_that_do_not_belong_to_the_tiles_are_refused(model, case):
    sample = case.samples()[0] | {"image_sizes": torch.tensor([30, 300])}
    with pytest.raises(ValueError, match=r"reads an image of 30 x 300 \(height x width\) as"):
        model.predict(sample)


@pytest.mark.parametrize("size", [(121, 70), (60, 150), (90, 90)])
def test_from_a_picture_to_masks(model, case, size):
    builder = SampleBuilder(
        image_processor=CustomLlavaNextImageProcessor.from_pretrained(case.dir / "backbone"),
        tokenizer=word_tokenizer("describe", "a", "red", "square", "and", "grass", image=IMAGE_TOKEN),
        prompt_template={"INSTRUCTION": "{input}"},
        prompt="<image> describe",
    )
    image = case.samples()[0]["image"].resize(size)
    sample = builder.ground(image, "a red square and grass", ["a red square", "grass"])
    output = model(sample, mode="tensor")
    assert output["sam_pred_masks"].shape == (2, size[1], size[0])
    assert torch.isfinite(output["sam_pred_masks"]).all()
    height, width = output["mask_attentions"].shape[-2:]
    assert abs(width / height - size[0] / size[1]) < 0.5 * size[0] / size[1]
