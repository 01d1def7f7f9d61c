"""PNGDataset and RefCOCO2PNG against recordings of the reference, field by field."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

import flmm  # noqa: F401  (applies the patches that mmdet needs)
from flmm.datasets.hpt_processors import CustomHPT15ImageProcessor
from flmm.datasets.llava_next_processors import CustomLlavaNextImageProcessor
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.pad2square_processor import Pad2Square
from flmm.datasets.png import PNGDataset
from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG

GOLDEN = Path(__file__).parents[1] / "golden" / "comp_datasets"
DATA = GOLDEN / "data"
CASE = json.loads((GOLDEN / "case.json").read_text())
PROCESSORS = {
    "CustomLlavaImageProcessor": CustomLlavaImageProcessor,
    "CustomLlavaNextImageProcessor": CustomLlavaNextImageProcessor,
    "CustomHPT15ImageProcessor": CustomHPT15ImageProcessor,
    "Pad2Square": Pad2Square,
}
MODES = list(CASE["modes"])
ARRAYS = (
    "input_ids",
    "mask_ids",
    "labels",
    "pixel_values",
    "image_sizes",
    "masks",
    "padded_masks",
    "gt_masks",
)


@pytest.fixture(scope="module")
def tensors():
    return np.load(GOLDEN / "tensors.npz")


def settings(mode):
    """Keywords of the data sets for one recorded mode, each with its own tokenizer."""
    from transformers import AutoTokenizer

    spec = CASE["modes"][mode]
    if spec["image_processor"] == "VLMImageProcessor":
        module = pytest.importorskip("deepseek_vl.models")
        if module.__file__ is None:  # folders without the package
            pytest.skip("deepseek_vl is not here")
        processor = module.VLMImageProcessor
    else:
        processor = PROCESSORS[spec["image_processor"]]
    config = {k: v for k, v in spec["image_processor_config"].items() if k[0] != "_" and k != "image_processor_type"}
    return {
        "tokenizer": AutoTokenizer.from_pretrained(GOLDEN / spec["tokenizer"]),
        "image_processor": processor(**config),
        "prompt_template": CASE["templates"][spec["template"]],
        "prompt": spec["prompt"],
        **spec["kwargs"],
    }


def check(sample, key, record, tensors):
    for field in ARRAYS:
        expected = tensors[CASE["aliases"].get(f"{key}/{field}", f"{key}/{field}")]
        value = sample[field]
        if not isinstance(value, Image.Image):
            assert str(value.dtype) == record["dtypes"][field], field
        np.testing.assert_array_equal(np.asarray(value), expected, err_msg=f"{key}/{field}")
    assert set(record["field_order"]) <= set(sample)
    assert sample["meta_data"] == record["meta_data"]
    assert f"PIL image mode {sample['image'].mode} size {list(sample['image'].size)}" == record["image"]
    for field in ("mask_infos", "file_name"):
        if field in record:
            assert sample[field] == record[field]


@pytest.mark.parametrize("mode", MODES)
def test_png_samples_equal_the_recording(mode, tensors):
    dataset = PNGDataset(
        json_file=DATA / "png.json",
        panoptic_json_file=DATA / "panoptic.json",
        panoptic_png_path=DATA / "panoptic",
        local_path=DATA / "images",
        ceph_path="somewhere:s3://images",
        **settings(mode),
    )
    assert len(dataset) == 3
    assert dataset.builder.prompt_ids == CASE["modes"][mode]["prompt_ids"]
    assert dataset.builder.image_token_idx == CASE["modes"][mode]["image_token_idx"]
    for index in range(3):
        check(dataset[index], f"png/{mode}/{index}", CASE["png"][f"png/{mode}/{index}"], tensors)


@pytest.fixture(scope="module")
def refs(tmp_path_factory):
    path = tmp_path_factory.mktemp("refs") / "refs(unc).p"
    path.write_bytes(pickle.dumps(json.loads((DATA / "refcoco" / "refs.json").read_text())))
    return path


def refcoco(refs, split, transform):
    from mmdet.datasets import RefCocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    masks = {
        "type": LoadAnnotations,
        "with_mask": True,
        "with_bbox": False,
        "with_seg": False,
        "with_label": False,
    }
    return RefCocoDataset(
        data_root=str(DATA),
        data_prefix={"img_path": "images"},
        ann_file="refcoco/instances.json",
        split_file=str(refs),
        split=split,
        text_mode="select_first",
        pipeline=[{"type": PILLoadImageFromFile, "backend_args": {"backend": "petrel"}}, masks, transform],
    )


@pytest.mark.parametrize("split", ["val", "train"])
@pytest.mark.parametrize("mode", MODES)
def test_refcoco_samples_equal_the_recording(mode, split, refs, tensors):
    keywords = settings(mode)
    joined = refcoco(refs, split, RefCOCO2PNG(**keywords))
    parted = refcoco(refs, split, RefCOCO2PNG(**keywords, concat=False))
    assert len(joined) == {"val": 2, "train": 1}[split]
    for index in range(len(joined)):
        key = f"refcoco/{mode}/{split}/concat/{index}"
        check(joined[index], key, CASE["refcoco"][key], tensors)
        singles = parted[index]
        assert len(singles) == 2
        for number, sample in enumerate(singles):
            key = f"refcoco/{mode}/{split}/split/{index}/{number}"
            check(sample, key, CASE["refcoco"][key], tensors)
            assert sample["file_name"] == CASE["refcoco"][f"data_info/{split}/{index}"]["img_file"]


@pytest.mark.parametrize("workers", [0, 1])
def test_sentences_of_a_picture_share_its_pixels(workers, refs):
    """By that an LMM knows that it can read them together; also when a loader's worker sent them."""
    parted = refcoco(refs, "val", RefCOCO2PNG(**settings("llava"), concat=False))
    for (samples,) in DataLoader(parted, batch_size=1, num_workers=workers, collate_fn=list):
        assert len({id(sample["pixel_values"]) for sample in samples}) == 1
        assert len({id(sample["image"]) for sample in samples}) == 1
        assert len(samples) == 2


@pytest.mark.parametrize("split", ["val", "train"])
def test_refcoco_items_keep_the_order_and_the_last_of_two_refs(split, refs):
    dataset = refcoco(refs, split, RefCOCO2PNG(**settings("llava")))
    for index in range(len(dataset)):
        record = CASE["refcoco"][f"data_info/{split}/{index}"]
        info = dataset.get_data_info(index)
        assert {key: info[key] for key in ("img_id", "instances", "text", "sample_idx")} == {
            key: record[key] for key in ("img_id", "instances", "text", "sample_idx")
        }
        assert Path(info["img_path"]).name == record["img_file"]
