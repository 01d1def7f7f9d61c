"""ReasonSeg and grounded captions from the command line, with the embedded model and two small pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typed import typed

from flmm.config import TINY_CHECKPOINT, TINY_CONFIG
from flmm.datasets import gcg
from flmm.masks import encode_mask as encode

ROOT = Path(__file__).parents[2]
BOX = (30, 40, 90, 100)


def picture(path):
    image = Image.new("RGB", (144, 144), "white")
    ImageDraw.Draw(image).rectangle(BOX, fill="red")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two red squares, as ReasonSeg and as GranD-f."""
    root = tmp_path_factory.mktemp("data")
    x0, y0, x1, y1 = BOX
    mask = np.zeros((144, 144), dtype=bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    for number in range(2):
        picture(root / f"ReasonSeg/val/{number}.jpg")
        shape = {"label": "target", "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
        content = {"text": ["the red square"], "is_sentence": bool(number), "shapes": [shape]}
        (root / f"ReasonSeg/val/{number}.json").write_text(json.dumps(content))
        picture(gcg.picture(root / "GranDf", f"sa_{number}"))
    captions, masks = gcg.annotation_files(root / "GranDf", "val")
    captions.parent.mkdir(parents=True)
    images = [{"id": f"sa_{i}", "height": 144, "width": 144} for i in range(2)]
    said = [{"image_id": i["id"], "caption": "a red square", "labels": ["a red square"]} for i in images]
    drawn = [{"image_id": i["id"], "category_id": 1, "segmentation": encode(mask)} for i in images]
    captions.write_text(json.dumps({"images": images, "annotations": said}))
    masks.write_text(json.dumps({"images": images, "annotations": drawn}))
    return root


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script of `scripts/` from the root of the repository; what it printed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")

    def run(script, *words):
        typed(monkeypatch, ROOT / f"scripts/{script}.py", *words)
        return capsys.readouterr().out

    return run


def words(data, output, *more):
    fixed = (TINY_CONFIG, "--checkpoint", TINY_CHECKPOINT, "--split", "val")
    return *fixed, "--data-root", data, "--output", output, *more


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["answer", "question"])
def test_reason_seg(run, data, tmp_path, variant):
    command = ("multiprocess_eval_reasonseg", *words(data / "ReasonSeg", tmp_path, "--variant", variant))
    printed = run(*command)
    report = json.loads((tmp_path / f"reason_seg_{variant}.json").read_text())
    refined = report["splits"]["val"]["refined"]
    assert [refined[name]["pictures"] for name in ("overall", "short", "long")] == [2, 1, 1]
    assert 0 <= refined["overall"]["gIoU"] <= 100
    assert f"{refined['overall']['gIoU']:.2f}" in printed
    files = sorted((tmp_path / f"reason_seg_val.{variant}/samples").iterdir())
    records = [json.loads(file.read_text()) for file in files]
    assert [bool(record["answer"]) for record in records] == [variant == "answer"] * 2
    before = [file.stat().st_mtime_ns for file in files]
    run(*command)
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.slow
def test_grounded_captions(run, data, tmp_path):
    question = ("--question", "Please give me a description of the image.")
    printed = run("multiprocess_infer_gcg", *words(data / "GranDf", tmp_path, *question))
    assert "scripts/eval_gcg.py --predictions" in printed
    prediction = gcg.read_prediction(tmp_path / "gcg_val/sa_0.json", (144, 144))
    assert prediction.caption
    assert len(prediction.phrases) == len(prediction.masks) > 0
    captions, masks = gcg.annotation_files(data / "GranDf", "val")
    files = ("--predictions", tmp_path / "gcg_val", "--captions", captions, "--masks", masks)
    run("eval_gcg", *files, "--similarity", "exact", "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert 0 <= scores["recall"] <= scores["recall_fixed"] <= 100
    assert 0 < scores["mIoU"] <= 100
