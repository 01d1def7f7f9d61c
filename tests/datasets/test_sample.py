"""The sample builder: what it passes on, expands, shares and refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import AutoTokenizer

from flmm.config import sample_settings
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.png import concat_datasets
from flmm.datasets.sample import ReadsSamples, SampleBuilder

TOKENIZERS = Path(__file__).parents[1] / "golden" / "comp_datasets"
TEMPLATE = {"INSTRUCTION": "USER: {input} ASSISTANT:"}
PROMPT = "<image>\nWhat is it?"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TOKENIZERS / "tokenizer_with_image")


@pytest.fixture(scope="module")
def processor():
    return CustomLlavaImageProcessor(size={"shortest_edge": 28})


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8))


def test_a_sample_without_ground_truth(tokenizer, processor, picture):
    builder = SampleBuilder(processor, tokenizer, TEMPLATE, PROMPT)
    sample = builder.ground(picture, "the sky and a dog", ["a dog", (0, 7)])
    assert set(sample) == {
        *("input_ids", "mask_ids", "labels", "pixel_values", "meta_data", "image_sizes", "image", "phrases")
    }
    prompt = tokenizer.encode(f"USER: {PROMPT} ASSISTANT:")
    assert sample["input_ids"][: len(prompt)].tolist() == prompt
    assert (sample["labels"][: len(prompt)] == -100).all()
    assert torch.equal(sample["labels"][len(prompt) :], sample["input_ids"][len(prompt) :])
    for number, phrase in enumerate(["a dog", "the sky"]):
        ids = sample["input_ids"][sample["mask_ids"] == number].tolist()
        assert ids == tokenizer.encode(phrase, add_special_tokens=False)
    assert sample["phrases"] == ["a dog", "the sky"]
    assert sample["pixel_values"].shape == (3, 28, 28)


class Grid:
    """A processor like those of Qwen2.5-VL: flat patches, a grid, an image token for each cell."""

    def __init__(self, layout=None):
        self.layout = layout

    def preprocess(self, image):
        shape = {"height": image.height, "width": image.width}
        padding = {f"{end}_{side}": 0 for end in ("before", "after") for side in shape}
        return {
            "pixel_values": [np.ones((6, 12), np.float32)],
            "image_grid_thw": torch.tensor([[1, 2, 3]]),
            "meta_datas": [{"image_shape": shape, "padded_shape": shape, "padding": padding}],
        }

    def image_tokens(self, processed):
        return self.layout or int(processed["image_grid_thw"].prod())


@pytest.mark.parametrize(("layout", "expected"), [(None, [3] * 6), ([9, 3, 3, 9], [9, 3, 3, 9])])
def test_other_outputs_are_passed_on_and_image_tokens_laid_out(tokenizer, picture, layout, expected):
    builder = SampleBuilder(Grid(layout), tokenizer, TEMPLATE, PROMPT)
    sample = builder.ground(picture, "a dog", ["a dog"])
    assert sample["image_grid_thw"].tolist() == [[1, 2, 3]]
    assert sample["pixel_values"].shape == (6, 12)
    assert sample["image_sizes"].tolist() == [20, 40]
    ids, at = sample["input_ids"].tolist(), builder.prompt_ids.index(3)
    assert ids[: at + len(expected)] == builder.prompt_ids[:at] + expected
    assert len(ids) == len(sample["mask_ids"]) == len(sample["labels"])
    assert sample["mask_ids"][: len(builder.prompt_ids) + len(expected) - 1].eq(-1).all()


def test_data_sets_share_one_builder(tokenizer, processor):
    config = {"type": SampleBuilder, "image_processor": processor, "tokenizer": tokenizer, "prompt_template": TEMPLATE}
    one, other = concat_datasets(
        [{"type": Words}, {"type": Words, "allow_empty_masks": True}], {"sample_builder": {**config, "prompt": PROMPT}}
    ).datasets
    assert one.builder is other.builder
    assert (one.allow_empty_masks, other.allow_empty_masks) == (False, True)
    with pytest.raises(ValueError, match="sample_builder and tokenizer are given: leave one of them out"):
        Words(one.builder, tokenizer=tokenizer)


class Words(ReadsSamples, Dataset):
    """A data set of one word."""

    def __len__(self):
        return 1


def test_an_added_image_token_leaves_the_callers_tokenizer_as_it_is(processor):
    plain = AutoTokenizer.from_pretrained(TOKENIZERS / "tokenizer_plain")
    builder = SampleBuilder(processor, plain, TEMPLATE, PROMPT, add_image_token=True)
    assert "<image>" in builder.tokenizer.get_vocab()
    assert "<image>" not in plain.get_vocab()
    assert builder.ground(Image.new("RGB", (9, 9)), "a dog", ["dog"])["input_ids"].eq(-200).sum() == 1


def test_settings_come_from_the_config(tokenizer, processor):
    own = {"tokenizer": tokenizer, "image_processor": processor, "prompt_template": TEMPLATE}
    nested = {"train_dataloader": {"dataset": {"shared": {"sample_builder": {"type": SampleBuilder, **own}}}}}
    for config in ({**own, "max_epochs": 8}, nested, {"train_dataloader": {"dataset": [{"type": Words, **own}]}}):
        assert sample_settings(config) == own
    with pytest.raises(ValueError, match="sets no image_processor, prompt_template"):
        sample_settings({"tokenizer": tokenizer})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_template": {"SYSTEM": ""}}, "INSTRUCTION must hold '{input}'"),
        ({"prompt_template": None}, "INSTRUCTION must hold '{input}'"),
        ({"prompt": "What is it?"}, "does not hold the image token '<image>'"),
        ({"image_token": "<picture>"}, "knows no image token '<picture>'"),
        ({"tokenizer": None}, "image_processor and tokenizer must be given"),
    ],
)
def test_wrong_settings_are_refused(tokenizer, processor, changes, message):
    settings = {
        "tokenizer": tokenizer,
        "image_processor": processor,
        "prompt_template": TEMPLATE,
        "prompt": PROMPT,
    }
    with pytest.raises(ValueError, match=message):
        SampleBuilder(**{**settings, **changes})


def test_image_tokens_in_the_text_and_foreign_processors_are_refused(tokenizer, processor, picture):
    with pytest.raises(ValueError, match="text holds the image token '<image>'"):
        SampleBuilder(processor, tokenizer, TEMPLATE, PROMPT).ground(picture, "a dog <image>", ["a dog"])
    from transformers import CLIPImageProcessor

    with pytest.raises(ValueError, match="CLIPImageProcessor.preprocess gives no meta_datas"):
        SampleBuilder(CLIPImageProcessor(), tokenizer, TEMPLATE, PROMPT).ground(picture, "a dog", ["a dog"])
