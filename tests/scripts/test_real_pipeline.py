"""The API over a real (random, tiny) LLaVA and SAM: shapes, memory and text, not quality."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_cases import GOLDEN, GoldenCase, build_llava
from PIL import Image
from transformers import AutoTokenizer

from flmm.api import GroundingModel
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.sample import SampleBuilder


@pytest.fixture(scope="module")
def model():
    case = GoldenCase("llava15_a")
    flmm_model = build_llava(case).eval()
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "comp_datasets/tokenizer_with_image")
    llava = flmm_model.backbone.model
    llava.resize_token_embeddings(len(tokenizer))  # the recorded model has its own, smaller vocabulary
    llava.config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    settings = {
        "tokenizer": tokenizer,
        "image_processor": CustomLlavaImageProcessor.from_pretrained(GOLDEN / "llava15_a/backbone"),
        "prompt": "<image>\nDescribe it.",
        "prompt_template": {"INSTRUCTION": "USER: {input} ASSISTANT:"},
    }
    return GroundingModel(flmm_model, SampleBuilder(**settings))


def noise(width, height):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_ground_and_draw(model):
    result = model.ground(noise(90, 121), "a red circle and a dog", ["a red circle", "a dog"])
    assert result.masks.shape == (2, 121, 90)
    assert result.attention_maps.shape == (2, 12, 6, 6)
    assert np.isfinite(result.attention).all()
    assert np.isfinite(result.scores).all()
    assert result.draw().height > 400


def test_a_photo_of_24_megapixels_takes_bounded_memory(model):
    photo = Image.fromarray(noise(512, 384)).resize((6000, 4000))
    model.ground(noise(512, 384), "a dog", ["a dog"])  # what the models themselves need is counted before
    before = gigabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    result = model.ground(photo, "a dog and a cat and a cow", ["a dog", "a cat", "a cow"])
    result.draw()
    grown = gigabytes("VmHWM") - before
    assert result.masks.shape == (3, 4000, 6000)
    assert 0.1 < grown < 1.5, f"{grown:.1f} GB more than for a small picture"  # the masks alone take 0.14


def gigabytes(what):
    """Memory of this process: VmRSS now, VmHWM at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s*(\d+) kB", status)[1]) / 2**20


def test_very_wide_pictures(model):
    result = model.ground(noise(600, 20), "a dog", ["a dog"])
    assert result.masks.shape == (1, 20, 600)
    assert result.draw().width > 900


def test_answer_is_greedy_and_depends_on_the_question(model):
    image = noise(90, 121)
    answer = model.answer(image, max_new_tokens=5)
    assert answer.text
    assert model.answer(image, max_new_tokens=5).text == str(answer)
    reply = model.answer(image, "Where is the dog?", max_new_tokens=5)
    text = model.builder.tokenizer.decode(reply.prompt.sample()["input_ids"])
    assert "Where is the dog?" in text
    assert "Describe" not in text


def test_capture_leaves_generation_untouched(model):
    image = noise(90, 121)
    before = model.answer(image, max_new_tokens=8).text
    model.ground(image, "a dog", ["a dog"])
    assert model.answer(image, max_new_tokens=8).text == before
    assert not any(p.grad is not None for p in model.model.parameters())
    assert torch.is_inference_mode_enabled() is False
