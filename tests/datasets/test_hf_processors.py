"""Processors of transformers as image processors of our data sets, at the settings of the released models."""

import pytest
import transformers as hf
from hf_tiny import FAMILIES
from hub_files import folder_of
from PIL import Image

from deepseek_vl.models import VLMImageProcessor
from flmm.datasets.hf_processors import HFImageProcessor, anyres_layout, canvas_layout, split_layout
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.prompts import Turn
from flmm.datasets.sample import SampleBuilder
from flmm.models.grids import AnyresGrid, TileGrid

SIZES = [(640, 480), (480, 640), (500, 500), (1000, 90), (97, 800), (64, 48), (2000, 1500)]
# repository, image processors (slow and fast), tokens of a side, layout, grid, settings of the leaf
CASES = {
    "smolvlm": (
        "HuggingFaceTB/SmolVLM-Instruct",
        (hf.Idefics3ImageProcessor, hf.Idefics3ImageProcessorFast),
        (9, split_layout, TileGrid),
        {},
    ),
    "internvl3": (
        "OpenGVLab/InternVL3-8B-hf",
        (hf.GotOcr2ImageProcessor, hf.GotOcr2ImageProcessorFast),
        (16, canvas_layout, TileGrid),
        {"crop_to_patches": True, "min_patches": 2, "max_patches": 6},
    ),
    "llava_onevision": (
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        (hf.LlavaOnevisionImageProcessor, hf.LlavaOnevisionImageProcessorFast),
        (27, anyres_layout, AnyresGrid),
        {},
    ),
}


def processor_of(family, images, side):
    """The processor of a released model, but for its tokenizer."""
    tiny = FAMILIES[family]
    processor = tiny.processor(tiny.tokenizer())
    processor.image_processor = images
    for key in ("image_seq_len", "image_seq_length", "num_image_tokens"):
        if hasattr(processor, key):
            setattr(processor, key, side**2)
    return processor, tiny.image_token


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
@pytest.mark.parametrize("size", SIZES)
def test_layouts_are_what_the_processor_did(family, fast, size):
    name, images, (side, layout, grid), call = CASES[family]
    processor, token = processor_of(family, images[fast].from_pretrained(folder_of(name)), side)
    output = HFImageProcessor(processor, token, layout=layout, **call).preprocess(Image.new("RGB", size))
    ids, inputs = output["image_token_ids"][0], output["lmm_inputs"][0]
    is_image = ids == processor.tokenizer.convert_tokens_to_ids(token)
    coarse, fine = grid(side)(is_image.nonzero().flatten(), inputs)
    assert coarse.shape == (side, side)
    rows, columns = fine.shape
    if size[0] != size[1] and rows != columns:
        assert (columns > rows) == (size[0] > size[1])


def test_a_processor_that_leaves_the_number_of_tokens_to_the_prompt():
    """GOT-OCR's: the prompt holds all of them, also that of a question."""
    tiny = FAMILIES["internvl3"]
    tokenizer = tiny.tokenizer()

    class Processor:
        def preprocess(self, image):
            return {"pixel_values": [image], "meta_datas": [{}]}

        def image_tokens(self, _processed):
            return [tokenizer.convert_tokens_to_ids(tiny.image_token)]

    prompt, template = f"<img>{tiny.image_token * 16}</img>\nDescribe.", {"INSTRUCTION": "User: {input}\nAssistant:"}
    builder = SampleBuilder(Processor(), tokenizer, template, prompt, image_token=tiny.image_token)
    picture = Image.new("RGB", (9, 9))
    asked = builder.converse([(picture, builder.process(picture))], [Turn("What?", pictures=1)])
    for sample, words in ((builder.build(picture, [], []), "Describe."), (asked, "What?")):
        assert tokenizer.decode(sample["input_ids"]) == template["INSTRUCTION"].format(
            input=prompt.replace("Describe.", words)
        )


def test_ids_of_the_prompt_are_trimmed():
    """PaliGemma's processor ends every prompt with a newline; the prompt of a config has its own."""
    tiny = FAMILIES["paligemma"]
    processor = tiny.processor(tiny.tokenizer())
    whole, trimmed = (
        HFImageProcessor(processor, tiny.image_token, trim=trim).preprocess(Image.new("RGB", (50, 40)))
        for trim in (0, 1)
    )
    newline = processor.tokenizer.encode("\n")
    assert whole["image_token_ids"][0].tolist() == trimmed["image_token_ids"][0].tolist() + newline
    assert trimmed["image_token_ids"][0].tolist() == [processor.image_token_id] * 16 + [
        processor.tokenizer.bos_token_id
    ]


IMAGENET, CLIP, HALF = (0.485, 0.456, 0.406), (0.48145466, 0.4578275, 0.40821073), (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "images", "mean", "shape", "tokens"),
    [
        ("Qwen/Qwen2-VL-7B-Instruct", hf.Qwen2VLImageProcessor, CLIP, (1380, 1176), 345),
        ("Qwen/Qwen2.5-VL-7B-Instruct", hf.Qwen2VLImageProcessor, CLIP, (1380, 1176), 345),
        ("Qwen/Qwen3-VL-4B-Instruct", hf.Qwen2VLImageProcessor, HALF, (1040, 1536), 260),
        ("google/paligemma-3b-mix-448", hf.SiglipImageProcessor, HALF, (1, 3, 448, 448), None),
        ("google/gemma-3-4b-it", hf.Gemma3ImageProcessor, HALF, (1, 3, 896, 896), None),
        ("HuggingFaceTB/SmolVLM-Instruct", hf.Idefics3ImageProcessor, HALF, (1, 13, 3, 384, 384), None),
        ("OpenGVLab/InternVL3-8B-hf", hf.GotOcr2ImageProcessor, IMAGENET, (1, 3, 448, 448), None),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", hf.LlavaOnevisionImageProcessor, HALF, (1, 5, 3, 384, 384), None),
    ],
)
def test_released_processors_give_the_size_and_mean_of_their_model(name, images, mean, shape, tokens):
    """A picture of 640 x 427; Qwen's tokens are patches by fours."""
    processor = images.from_pretrained(folder_of(name))
    assert processor.image_mean == mean
    output = processor(Image.new("RGB", (640, 427)), return_tensors="pt")
    assert tuple(output["pixel_values"].shape) == shape
    assert tokens is None or int(output["image_grid_thw"].prod()) // 4 == tokens


def test_released_llava_and_deepseek_processors():
    """Squares of 336, 384 and 1024 pixels; DeepSeek-VL's towers normalize by themselves."""
    picture = Image.new("RGB", (640, 427), "white")
    llava = CustomLlavaImageProcessor.from_pretrained(folder_of("llava-hf/llava-1.5-7b-hf"))
    assert llava.preprocess(picture)["pixel_values"][0].shape == (3, 336, 336)
    assert llava.image_mean == CLIP
    for size, side in (("1.3b", 384), ("7b", 1024)):
        (pixels,) = VLMImageProcessor.from_pretrained(folder_of(f"deepseek-ai/deepseek-vl-{size}-chat"))(picture)[
            "pixel_values"
        ]
        assert pixels.shape == (3, side, side)
        assert pixels.max() == 1
