import pytest
import torch
from golden_cases import GoldenCase, golden_names
from parity import assert_parity
from words import word_tokenizer

from flmm.datasets.hpt_processors import CustomHPT15ImageProcessor
from flmm.datasets.sample import SampleBuilder
from flmm.models.frozen_hpt import FrozenHPTSAM
from hpt import CLIPVisionModel, LanguageModel, ProjectorModel, SiglipVisionModel

CASES = golden_names("hpt")
IMAGE_TOKEN = -200


def build(case: GoldenCase) -> FrozenHPTSAM:
    tower = CLIPVisionModel if "clip" in case.dir.name else SiglipVisionModel
    parts = {"llm": LanguageModel, "visual_encoder": tower, "projector": ProjectorModel}
    weights = {"pretrained_model_name_or_path": str(case.dir / "backbone"), "dtype": torch.float32}
    return FrozenHPTSAM(
        **{name: {"type": cls.from_pretrained, "subfolder": name, **weights} for name, cls in parts.items()},
        image_size=case.case["image_size"],
        visual_select_layer=case.case["visual_select_layer"],
        **case.head_config(),
    )


@pytest.fixture(scope="module")
def case():
    return GoldenCase(CASES[-1])


@pytest.fixture(scope="module")
def model(case):
    return build(case)


@pytest.mark.parametrize("name", CASES)
def test_parity(name):
    case = GoldenCase(name)
    model = build(case)
    embedding = model.backbone.model.visual_encoder.embeddings.position_embedding
    # tests/hpt compares it; one value of CLIP's that torch 2.1 rounded to the next float16 flips a pixel (aiou 1.3e-4)
    embedding.weight.copy_(case.outputs["position_embedding_after_interpolation"])
    assert_parity(case, model)


def test_the_view_covers_the_image_tokens(model, case):
    sample = case.samples()[0]
    tokens = model.backbone.tokens(sample)
    side = case.case["clip_shape"]
    start = int((sample["input_ids"] == IMAGE_TOKEN).nonzero())
    assert torch.equal(tokens.views[0], start + torch.arange(side * side).view(side, side))
    assert len(tokens.mask_ids) == len(sample["input_ids"]) - 1 + side * side
    assert (tokens.mask_ids[tokens.views[0]] == -1).all()


def test_text_embeddings_are_those_of_the_language_model(model, case):
    sample = case.samples()[0]
    tokens = model.backbone.tokens(sample)
    text = torch.ones(len(tokens.mask_ids), dtype=torch.bool).index_fill(0, tokens.views[0].flatten(), False)
    ids = sample["input_ids"][sample["input_ids"] != IMAGE_TOKEN]
    embeds = model.backbone.model.llm.get_input_embeddings()(ids)
    assert torch.equal(tokens.inputs["inputs_embeds"][0, text], embeds)


def test_samples_are_left_as_they_were(model, case):
    sample, fresh = case.samples()[0], case.samples()[0]
    model.predict(sample)
    assert all(torch.equal(sample[key], fresh[key]) for key in ("input_ids", "mask_ids", "labels", "pixel_values"))


def test_from_a_picture_to_masks(model, case):
    side = case.case["image_size"]
    builder = SampleBuilder(
        image_processor=CustomHPT15ImageProcessor.from_pretrained(
            case.dir / "backbone", subfolder="visual_encoder", size={"height": side, "width": side}
        ),
        tokenizer=word_tokenizer("describe", "a", "red", "square", "and", "grass"),
        prompt_template={"INSTRUCTION": "{input}"},
        prompt="<image> describe",
        add_image_token=True,
    )
    image = case.samples()[0]["image"].resize((60, 90))
    sample = builder.ground(image, "a red square and grass", ["a red square", "grass"])
    assert sample["input_ids"][0] == IMAGE_TOKEN
    output = model(sample, mode="tensor")
    assert output["sam_pred_masks"].shape == (2, 90, 60)
    assert torch.isfinite(output["sam_pred_masks"]).all()
    height, width = output["pred_masks"].shape[-2:]
    assert (height, width) == (64, 43)  # the picture without the padding beside it
