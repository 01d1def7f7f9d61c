"""Reading annotations fast changes nothing that is read; the loader of the configs works with and without workers."""

import gc
import json
import pickle
import random
from pathlib import Path

import msgspec
import pytest
import torch
from mmdet.datasets import RefCocoDataset
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory
from transformers import AutoTokenizer

import flmm  # noqa: F401  (applies the patches that mmdet needs)
from flmm.datasets.annotations import decode_file
from flmm.datasets.captions import Panoptic
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.png import PNGDataset
from flmm.datasets.refcoco import read_refs
from flmm.datasets.res import RESDataset
from flmm.runner import CustomRunner

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "comp_datasets"
DATA = GOLDEN / "data"


@pytest.fixture(scope="module")
def refcoco(tmp_path_factory):
    """Forty images of scattered ids with polygons and run lengths; some objects are referred to twice."""
    rng, root = random.Random(0), tmp_path_factory.mktemp("coco")
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 60, "width": 80} for i in rng.sample(range(10**6), 40)]
    shapes = [[[1.5, 2, 30.25, 4, 7, 1e1]], {"size": [60, 80], "counts": [100, 5, 4695]}]
    objects = [
        {"id": i, "image_id": rng.choice(images)["id"], "segmentation": shapes[i % 7 == 0], "area": 1.0, "bbox": [1, 2]}
        for i in rng.sample(range(10**6), 150)
    ]
    refs = [
        {
            "ref_id": i,
            "ann_id": item["id"],
            "image_id": item["image_id"],
            "split": rng.choice(("train", "val")),
            "sentences": [{"raw": f"Expression {i} {j}", "tokens": []} for j in range(rng.randint(1, 4))],
        }
        for i, item in enumerate(objects + objects[:20])
    ]
    rng.shuffle(refs)
    (root / "instances.json").write_text(json.dumps({"info": {}, "images": images, "annotations": objects}))
    (root / "refs.p").write_bytes(pickle.dumps(refs, protocol=0))
    return {"data_root": f"{root}/", "ann_file": "instances.json", "split_file": "refs.p"}


@pytest.mark.parametrize("mode", ["random", "concat", "select_first", "original"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_refcoco_items_are_those_of_mmdet(refcoco, mode, split):
    random.seed(1)  # both draw the same expressions
    theirs = RefCocoDataset(**refcoco, data_prefix={"img_path": "train2014/"}, split=split, text_mode=mode)
    random.seed(1)
    ours = RESDataset(**refcoco, split=split, text_mode=mode, sample_builder=object())
    assert len(ours) > 30
    for i in range(len(ours)):
        expected, found = theirs.get_data_info(i), ours.get_data_info(i)
        assert found == expected | {key: found[key] for key in ("height", "width")}
    assert hasattr(theirs, "instances")
    assert not hasattr(ours, "instances")  # gigabytes at the real size


def test_refcoco_files_that_do_not_fit_are_told(refcoco, tmp_path):
    def build(**changes):
        return RESDataset(**{**refcoco, "sample_builder": object(), **changes})

    with pytest.raises(ValueError, match=r'No sample in split "testA" of .*refs.p; it has train, val'):
        build(split="testA")
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*gone.json: see docs/data.md"):
        build(ann_file="gone.json")
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*gone.p"):
        build(split_file="gone.p")
    content = json.loads(Path(refcoco["data_root"], "instances.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**content, "annotations": content["annotations"][:1]}))
    with pytest.raises(
        ValueError, match=r"refs.p with .*other.json: \d+ of \d+ objects .* object \d+: no annotation \d+"
    ):
        build(ann_file=str(tmp_path / "other.json"))
    (tmp_path / "other.json").write_text(json.dumps({**content, "images": [{"id": 1}]}))
    with pytest.raises(ValueError, match=r"other.json has another format.*`file_name`.*images"):
        build(ann_file=str(tmp_path / "other.json"))


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9])
def test_cut_references_are_told(refcoco, part, tmp_path):
    whole = Path(refcoco["data_root"], "refs.p").read_bytes()
    (tmp_path / "cut.p").write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"cut.p is no complete pickle"):
        read_refs(tmp_path / "cut.p")


def test_an_unknown_category_is_told(tmp_path):
    content = json.loads((DATA / "panoptic.json").read_text())
    (tmp_path / "panoptic.json").write_text(json.dumps({**content, "categories": content["categories"][:1]}))
    with pytest.raises(ValueError, match="image 139 has category 2, which `categories` lacks"):
        Panoptic(tmp_path / "panoptic.json").get(139)


CONTENT = {"a": 1, "text": 'NaN and " Infinity', "list": [1.5]}
JSON = json.dumps(CONTENT)


@pytest.mark.parametrize(
    "content",
    [
        JSON.encode("utf-8-sig"),
        JSON.encode("utf-16"),
        JSON.encode("utf-16-le"),
        JSON.encode("utf-32"),
        JSON.replace("1.5", "1.5, NaN, -Infinity").encode(),
        (JSON + "\r\n ").encode(),
    ],
)
def test_json_as_editors_and_python_write_it(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    found = decode_file(tmp_path / "a.json", msgspec.json.Decoder(dict[str, msgspec.Raw]))
    numbers = [1.5, None, None] if b"NaN, -" in content else [1.5]
    assert {key: msgspec.json.decode(value) for key, value in found.items()} == CONTENT | {"list": numbers}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (JSON[:20].encode(), "is not complete JSON .*truncated.*: fetch it again"),
        (b"<html>", "is no JSON .*byte 0.*: correct it"),
        (b'{"a": 1,, "b": NaN}', "is no JSON .*byte 8"),
        (b"\xff\xfe\x00\xd8a", "looks like utf-16 but is not"),
    ],
)
def test_what_is_no_json_is_told_with_its_cause(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.json {message}"):
        decode_file(tmp_path / "a.json", msgspec.json.Decoder())


def test_an_empty_file_is_not_complete(tmp_path):
    (tmp_path / "empty.json").touch()
    with pytest.raises(ValueError, match="empty.json is not complete JSON"):
        decode_file(tmp_path / "empty.json", msgspec.json.Decoder())


@pytest.fixture(scope="module")
def captions():
    return PNGDataset(
        DATA / "png.json",
        DATA / "panoptic.json",
        DATA / "panoptic",
        local_path=DATA / "images",
        tokenizer=AutoTokenizer.from_pretrained(GOLDEN / "tokenizer_with_image"),
        image_processor=CustomLlavaImageProcessor(size={"shortest_edge": 28}),
        prompt_template={"INSTRUCTION": "USER: {input} ASSISTANT:"},
        prompt="<image>\nWhat is it?",
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_of_the_configs(captions, workers):
    """`train_dataloader.num_workers=0` on the command line must work: other settings may not need workers."""
    settings = Config.fromfile(ROOT / "configs" / "_base_" / "datasets.py").train_dataloader
    assert settings.num_workers > 0
    assert settings.pin_memory
    settings.update(dataset=captions, num_workers=workers)
    batches = list(Runner.build_dataloader(settings, seed=0))
    whole = {sample["file_name"]: sample for sample in captions}
    assert len(batches) == len(whole)
    for batch in batches:
        (sample,) = batch["data"]
        assert torch.equal(sample["gt_masks"], whole[sample["file_name"]]["gt_masks"])
        assert sample["image"].tobytes() == whole[sample["file_name"]]["image"].tobytes()


def test_a_batch_can_be_pinned(captions, monkeypatch):
    """Every tensor goes to pinned memory (here: is doubled); pictures, names and numbers stay."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor * 2)
    batch = {"data": [captions[0]], "data_samples": None}
    (pinned,) = pin_memory(batch)["data"]
    for key, value in batch["data"][0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(pinned[key], value * 2), key
        elif isinstance(value, Image.Image):
            assert pinned[key] is value
        else:
            assert pinned[key] == value, key


class FreezeCount:
    """One sample: how many objects are out of the reach of the process's garbage collection."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return gc.get_freeze_count()


def test_workers_of_a_run_leave_the_objects_of_their_parent_alone():
    sampler = {"type": "DefaultSampler", "shuffle": False}
    settings = {"dataset": FreezeCount(), "sampler": sampler, "batch_size": 1, "num_workers": 1}
    objects, before = [[] for _ in range(1000)], gc.get_freeze_count()
    loader = CustomRunner.__new__(CustomRunner).build_dataloader(settings)
    (frozen,) = next(iter(loader))
    assert frozen >= before + len(objects)
