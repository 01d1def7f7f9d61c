"""What a user can do wrong, on every LMM family: an error with names, numbers and the cure."""

import re

import pytest
import torch
from families import picture
from PIL import Image

from flmm.config import build_model, read_config, sample_settings
from flmm.datasets.sample import SampleBuilder

QWEN = {"qwen2_5_vl", "qwen2_vl", "qwen3_vl"}  # read pictures of at most 200 : 1
UNPADDED = {"llava_next", "llava_onevision"}  # cut the padding of their tiles off, and with it all of a thin picture
THIN = {
    "one pixel": (1, 1),
    "one row": (300, 1),
    "one column": (1, 300),
    "very wide": (2000, 4),
    "very high": (4, 2000),
}
REFUSED = {(family, shape) for family in QWEN | UNPADDED for shape in THIN if shape != "one pixel"}


def is_image(built, sample):
    """Tokens that stand for the picture."""
    if built.builder.add_image_token:
        return sample["input_ids"] == -200
    read = sample["input_ids"] == getattr(built.model.backbone.model.config, "image_token_id", None)
    return read if read.any() else sample["input_ids"] == built.builder.image_token_idx


@pytest.mark.parametrize("more", [-1, 1])
def test_a_wrong_number_of_image_tokens(built, more):
    sample = built.sample()
    image = is_image(built, sample)
    first, count = int(image.nonzero()[0]), int(image.sum())
    repeats = torch.ones_like(sample["input_ids"]).index_fill(0, torch.tensor([first]), 1 + more)
    sample |= {key: sample[key].repeat_interleave(repeats) for key in ("input_ids", "mask_ids", "labels")}
    with pytest.raises(ValueError, match=rf"{count + more} image tokens .*(must|check)"):
        built.model(sample, mode="predict")


FOREIGN = {
    "a square": torch.zeros(3, 70, 70),
    "tiles": torch.zeros(9, 3, 70, 70),
    "patches": torch.zeros(64, 500),
    "a picture": Image.new("RGB", (64, 32)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_pixel_values_of_another_models_processor(built, kind):
    sample = built.sample() | {"pixel_values": FOREIGN[kind]}
    with pytest.raises(ValueError, match=r"(?i)pixel_values.*processor"):
        built.model(sample, mode="predict")


@pytest.mark.parametrize("shape", THIN)
def test_thin_pictures(built, shape):
    width, height = THIN[shape]
    if (built.name, shape) in REFUSED:
        with pytest.raises(ValueError, match=r"\d+ x \d+.*([Cc]rop|enlarge|narrow)"):
            built.model(built.sample(picture((width, height))), mode="tensor")
        return
    output = built.model(built.sample(picture((width, height))), mode="tensor")
    assert output["sam_pred_masks"].shape == (2, height, width)
    assert output["sam_pred_masks"].isfinite().all()


def test_a_text_beyond_the_context(built):
    longest = built.model.backbone.decoder.config.max_position_embeddings
    words = "a ball and "
    text = 2 * words * (longest // len(built.builder.tokenizer.encode(words, add_special_tokens=False)))
    sample = built.sample(text=text, phrases=["a ball"])
    with pytest.raises(ValueError, match=rf"\d+ tokens .* {longest}.*: shorten the text") as refused:
        built.model(sample, mode="predict")
    assert int(re.match(r"\d+", str(refused.value))[0]) >= len(sample["input_ids"]) > longest


def test_a_missing_image_token(built):
    settings = {**sample_settings(built.config), "prompt": "Describe it."}
    with pytest.raises(ValueError, match="'Describe it.' does not hold the image token"):
        SampleBuilder(**settings)


@pytest.mark.parametrize("pattern", ["config.json", "*.safetensors"])
def test_a_repository_with_files_missing(built, pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(built.family.lay_out(tmp_path))
    found = list(tmp_path.rglob(pattern))  # does not follow the links to configs and checkpoints
    assert found
    for path in found:
        path.unlink()
    problem, cure = r"(no config\.json|no file named|no weights|are missing)", "(complete|download)"
    with pytest.raises(FileNotFoundError, match=rf"\w+/.*{problem}.*{cure}"):
        build_model(config)
