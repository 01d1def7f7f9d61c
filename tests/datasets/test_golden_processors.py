"""Image processors against recordings of the reference: every pixel and every entry of the meta data."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flmm.datasets.hpt_processors import CustomHPT15ImageProcessor, CustomHPTImageProcessor
from flmm.datasets.llava_next_processors import CustomLlavaNextImageProcessor
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.pad2square_processor import Pad2Square

GOLDEN = Path(__file__).parents[1] / "golden"
CASE = json.loads((GOLDEN / "comp_processors" / "case.json").read_text())
ANYRES = json.loads((GOLDEN / "comp_anyres" / "case.json").read_text())
CLASSES = {
    "CustomLlavaImageProcessor": CustomLlavaImageProcessor,
    "CustomLlavaNextImageProcessor": CustomLlavaNextImageProcessor,
    "CustomHPT15ImageProcessor": CustomHPT15ImageProcessor,
    "Pad2Square": Pad2Square,
}


def build(name):
    spec = CASE["processors"][name]
    if spec["cls"] == "VLMImageProcessor":
        module = pytest.importorskip("deepseek_vl.models")
        if module.__file__ is None:  # folders without the package
            pytest.skip("deepseek_vl is not here")
        cls = module.VLMImageProcessor
    else:
        cls = CustomHPTImageProcessor if name == "hpt_clip" else CLASSES[spec["cls"]]
    return cls(**{k: v for k, v in spec["config"].items() if k[0] != "_" and k != "image_processor_type"})


@pytest.mark.parametrize("name", list(CASE["processors"]))
def test_processor_equals_the_recording(name):
    processor, tensors = build(name), np.load(GOLDEN / "comp_processors" / "tensors.npz")
    for number, file in enumerate(sorted(CASE["images"])):
        record, expected = CASE["results"][f"{name}/{number}"], tensors[f"{name}/{number}"]
        output = processor.preprocess(Image.open(GOLDEN / "comp_processors" / file))
        pixels = np.asarray(output["pixel_values"][0])
        assert str(pixels.dtype) == record["dtype"]
        np.testing.assert_allclose(pixels, expected, rtol=0, atol=1e-6, err_msg=f"{name}, {file}")
        assert list(output["image_sizes"][0]) == record["image_size"]
        assert output["meta_datas"][0] == record["meta_data"]


def test_llava_next_frames_equal_the_recorded_sizes():
    columns = {name: i for i, name in enumerate(ANYRES["columns"])}
    size = ANYRES["vision_image_size"]
    processor = CustomLlavaNextImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_grid_pinpoints=ANYRES["image_grid_pinpoints"],
    )
    rows = sorted(ANYRES["rows"], key=lambda row: row[0] * row[1])[:12] + ANYRES["rows"][:4]
    for row in rows:
        image = Image.new("RGB", (row[columns["image_width"]], row[columns["image_height"]]))
        output = processor.preprocess(image)
        meta = output["meta_datas"][0]
        frame = [meta["padded_shape"][side] for side in ("height", "width")]
        assert frame == [row[columns[f"best_resolution_{side} (processor)"]] for side in "hw"]
        resized = [meta["image_shape"][side] for side in ("height", "width")]
        assert resized == [row[columns[f"resized_{side} (processor)"]] for side in "hw"]
        grid = [meta["grid_shape"][side] for side in ("height", "width")]
        assert grid == [row[columns[f"grid_tiles_{side} (model)"]] for side in "hw"]
        assert len(output["pixel_values"][0]) == 1 + grid[0] * grid[1]


@pytest.mark.parametrize("name", ["llava", "llava_next", "hpt_siglip", "pad2square"])
@pytest.mark.parametrize("size", [(300, 1), (1, 300), (3, 3), (1, 1)])
def test_thin_pictures_keep_at_least_one_pixel(name, size):
    output = build(name).preprocess(Image.new("RGB", size, (10, 20, 30)))
    meta = output["meta_datas"][0]
    assert min(meta["image_shape"].values()) >= 1
    for side in ("height", "width"):
        padding = meta["padding"][f"before_{side}"] + meta["padding"][f"after_{side}"]
        assert meta["image_shape"][side] + padding == meta["padded_shape"][side]


def test_lists_and_single_images_give_the_same():
    processor = build("llava")
    files = [GOLDEN / "comp_processors" / file for file in sorted(CASE["images"])[:2]]
    together = processor.preprocess([Image.open(file) for file in files])["pixel_values"]
    alone = [processor.preprocess(Image.open(file))["pixel_values"][0] for file in files]
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))


def test_saved_and_loaded_again(tmp_path):
    build("llava").save_pretrained(tmp_path)
    image = Image.open(GOLDEN / "comp_processors" / sorted(CASE["images"])[0])
    again = CustomLlavaImageProcessor.from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        again.preprocess(image)["pixel_values"][0], build("llava").preprocess(image)["pixel_values"][0]
    )
