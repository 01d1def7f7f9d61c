"""Processors of transformers as image processors of our data sets, at the settings of the released models."""

import pytest
import transformers as hf
from hf_tiny import FAMILIES
from PIL import Image

from flmm.datasets.hf_processors import HFImageProcessor, anyres_layout, canvas_layout, split_layout
from flmm.models.grids import AnyresGrid, TileGrid

ONEVISION = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
SIZES = [(640, 480), (480, 640), (500, 500), (1000, 90), (97, 800), (64, 48), (2000, 1500)]
SPLIT = {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}}
TILE = {"size": {"height": 448, "width": 448}, "crop_to_patches": True, "min_patches": 2, "max_patches": 6}
BASE = {"size": {"height": 384, "width": 384}, "image_grid_pinpoints": ONEVISION}
# image processors (slow and fast), tokens of a side, layout, grid
CASES = {
    "smolvlm": (hf.Idefics3ImageProcessor(**SPLIT), hf.Idefics3ImageProcessorFast(**SPLIT), 9, split_layout, TileGrid),
    "internvl3": (hf.GotOcr2ImageProcessor(**TILE), hf.GotOcr2ImageProcessorFast(**TILE), 16, canvas_layout, TileGrid),
    "llava_onevision": (
        hf.LlavaOnevisionImageProcessor(**BASE),
        hf.LlavaOnevisionImageProcessorFast(**BASE),
        27,
        anyres_layout,
        AnyresGrid,
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
    *images, side, layout, grid = CASES[family]
    processor, token = processor_of(family, images[fast], side)
    output = HFImageProcessor(processor, token, layout=layout).preprocess(Image.new("RGB", size))
    ids, inputs = output["image_token_ids"][0], output["lmm_inputs"][0]
    is_image = ids == processor.tokenizer.convert_tokens_to_ids(token)
    coarse, fine = grid(side)(is_image.nonzero().flatten(), inputs)
    assert coarse.shape == (side, side)
    rows, columns = fine.shape
    if size[0] != size[1] and rows != columns:
        assert (columns > rows) == (size[0] > size[1])


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
