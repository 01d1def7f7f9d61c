"""The benchmark from its files to records, pictures and scores, with the embedded model and two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from families import picture
from typed import typed

from flmm.config import TINY_CHECKPOINT, TINY_CONFIG
from flmm.evaluation.visual_cot import box_scores, cot_metrics

ROOT = Path(__file__).parents[2]


def test_boxes_that_are_none_do_not_count():
    records = [
        {"box": [0, 0, 10, 10], "gt_bbox": [0, 0, 10, 10], "answer": "Red.", "gt": "red"},
        {"box": [0, 0, 10, 10], "gt_bbox": [0, 0, 5, 10], "answer": "no", "gt": "yes"},
        {"box": [0, 0, 10, 10], "gt_bbox": [6, 6, 6, 9], "answer": "", "gt": "blue"},
    ]
    metrics = cot_metrics(records, "v1")
    assert (metrics["items"], metrics["boxes"]) == (3, 2)
    assert (metrics["box_iou"], metrics["box_acc50"], metrics["pointing"]) == (75, 50, 100)
    assert metrics["exact"] == pytest.approx(100 / 3)
    assert metrics["yes_no"] == 0
    assert "box_iou" not in cot_metrics(records, "v3")
    assert box_scores([]) == {"box_iou": None, "box_acc50": None, "pointing": None, "boxes": 0}


@pytest.fixture
def benchmark(tmp_path):
    """Two subsets; two questions about one picture, a palette, and a box that is none."""
    folder = tmp_path / "data/cot/shapes"
    folder.mkdir(parents=True)
    picture((120, 90)).save(folder / "a.jpg")
    picture((90, 120)).convert("RGBA").quantize(8).save(folder / "b.png")
    items = [("a.jpg", 1, "[10, 10, 50, 60]"), ("a.jpg", 2, "[30, 30, 30, 30]"), ("b.png", 5, "[0, 0, 40, 40]")]
    for name, chosen in (("one", items[:2]), ("two", items[2:])):
        entries = [
            {
                "question_id": number,
                "image": [f"cot/shapes/{file}", f"cot/shapes/{file}###{box}"],
                "conversations": [{"value": f"<image>\nWhat is it, number {number}?"}, {}, {}, {"value": "a ball"}],
            }
            for file, number, box in chosen
        ]
        for entry in entries:
            entry["conversations"][1:3] = [{"value": "[0, 0, 1, 1]"}, {"value": "<image>"}]
        (tmp_path / f"benchmark/{name}.json").parent.mkdir(exist_ok=True)
        (tmp_path / f"benchmark/{name}.json").write_text(json.dumps(entries))
    return tmp_path


def words(root):
    fixed = (TINY_CONFIG, "--checkpoint", TINY_CHECKPOINT, "--version", "v1", "--discard_sam")
    return *fixed, "--benchmark", root / "benchmark", "--image_folder", root / "data", "--save_folder", root


def launch(script, *words):
    """With two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("evaluating with 2 process(es)") == 1
    return done.stdout


@pytest.mark.slow
def test_inference(benchmark, monkeypatch):
    script = ROOT / "scripts/visual_cot/visual_cot_inference.py"
    printed = launch(script, *words(benchmark))
    folder = benchmark / f"{Path(TINY_CONFIG).stem}_visual_cot_v1"
    one, two = (json.loads((folder / f"{name}.json").read_text()) for name in ("one", "two"))
    assert [record["question_id"] for record in one + two] == [1, 2, 5]
    assert one[0]["question"] == "What is it, number 1?"
    assert one[1]["gt_bbox"] == [30, 30, 30, 30]
    assert {"thought", "box", "answer", "image", "gt"} <= two[0].keys()
    assert sorted(file.name for file in (folder / "one.pictures").iterdir()) == ["000001.jpg", "000002.jpg"]
    assert "mean of subsets" in printed
    samples = {file: file.stat().st_mtime_ns for file in folder.glob("*/samples/*.json")}
    assert len(samples) == 3
    monkeypatch.chdir(ROOT)
    typed(monkeypatch, script, *words(benchmark))
    assert {file: file.stat().st_mtime_ns for file in samples} == samples
