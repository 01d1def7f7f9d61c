"""The evaluation commands, with a model that reads the answer off the sample."""

import argparse
import json
import os
import pickle
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch.distributed import HashStore
from typed import typed

from flmm.config import TINY_CONFIG, data_root, read_config
from flmm.datasets.shapes import make_shapes
from flmm.evaluation.records import RecordStore
from flmm.evaluation.run import Evaluation, Queue, evaluate_items, evaluate_png, evaluation_arguments
from flmm.masks import decode_mask
from flmm.training.fingerprint import file_digest

ROOT = Path(__file__).parents[2]
CONFIG = "tests/helpers/fake_config.py"
VAL = 7


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", train=1, val=VAL, workers=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    save_file({"mask_head.weight": torch.zeros(2, 2), "mask_head.bias": torch.zeros(2)}, path)
    return path


def words(shapes, checkpoint, output, *more):
    """What follows the name of a script."""
    return CONFIG, "--checkpoint", checkpoint, "--data-root", shapes, "--output", output, *more


def start(script, *words, **environment):
    """Two processes; `accelerate launch --cpu` starts one, whatever it is asked for."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [f"scripts/{script}.py", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/helpers"), "OMP_NUM_THREADS": "1", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)


def launch(script, *words):
    process = start(script, *words)
    printed = process.communicate(timeout=900)[0]
    assert process.returncode == 0, printed
    assert printed.count("evaluating with 2 process(es)") == 1, printed


@pytest.fixture
def alone(monkeypatch, capsys):
    """Runs a script in this process, from the root of the repository; what it printed."""
    monkeypatch.chdir(ROOT)

    def alone(script, *words):
        typed(monkeypatch, ROOT / f"scripts/{script}.py", *words)
        printed = capsys.readouterr()
        assert (printed.out + printed.err).count("evaluating with 1 process(es)") == 1
        return printed.out

    return alone


def children(pid):
    """Processes that a process has started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def records(folder):
    return {file.name: json.loads(file.read_text()) for file in sorted((folder / "samples").iterdir())}


@pytest.mark.slow
def test_png_is_the_same_with_two_processes_killed_in_between(alone, shapes, checkpoint, tmp_path):
    script, run = "multiprocess_eval_png", (shapes, checkpoint)
    printed = alone(script, *words(*run, tmp_path / "one"))
    alone(script, *words(*run, tmp_path / "two", "--limit", 3))
    assert len(records(tmp_path / "two/png_val.teacher_forced")) == 3
    samples = tmp_path / "two/png_val.teacher_forced/samples"
    killed_when(5, samples, start(script, *words(*run, tmp_path / "two"), SECONDS_PER_SAMPLE="0.5"))
    written = {file: file.stat().st_mtime_ns for file in samples.glob("0*.json")}
    assert 5 <= len(written) < 3 + VAL
    launch(script, *words(*run, tmp_path / "two", "--batch-size", 2))
    assert all(file.stat().st_mtime_ns == changed for file, changed in written.items())

    one, two = (records(tmp_path / name / "png_val.teacher_forced") for name in ("one", "two"))
    assert len(one) == 4 * VAL  # a picture has four texts
    assert one == two
    metrics = [json.loads((tmp_path / name / "png.json").read_text())["splits"] for name in ("one", "two")]
    assert metrics[0] == metrics[1]
    phrases = [phrase for record in one.values() for phrase in record["phrases"]]
    refined = metrics[0]["val"]["refined"]
    assert refined["all"]["phrases"] == len(phrases)
    mean = sum(phrase["refined"]["iou"] for phrase in phrases) / len(phrases)
    assert refined["all"]["average_recall"] == pytest.approx(100 * mean)
    assert 60 < refined["all"]["average_recall"] < 99
    assert f"{refined['things']['average_recall']:.2f}" in printed
    mask = decode_mask(phrases[0]["refined"]["mask"])
    assert mask.shape == (one["000000.json"]["height"], one["000000.json"]["width"])


def killed_when(number, samples, process):
    """Kills both processes in mid-evaluation, when there are so many records."""
    while len(list(samples.glob("0*.json"))) < number:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    workers = children(process.pid)
    assert len(workers) == 2
    for pid in (process.pid, *workers):  # torchrun gives its processes sessions of their own
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_the_one_who_is_ready_takes_the_next_sample():
    """While one works on its first sample, the other gets all that is left; shared out by number it would get half."""
    store = HashStore()
    slow, quick = Queue(range(100, 110), store), Queue(range(100, 110), store)
    asking = iter(slow)
    assert next(asking) == 100
    assert list(quick) == list(range(101, 110))
    assert list(asking) == []
    assert list(slow.taken) == [0]
    assert list(quick.taken) == list(range(1, 10))


@pytest.mark.slow
def test_both_res_protocols(alone, shapes, checkpoint, tmp_path):
    script, run = "multiprocess_eval_refcoco", (shapes, checkpoint, tmp_path)
    launch(script, *words(*run, "--split", "refcoco_val", "refcocog_test"))
    printed = alone(script, *words(*run, "--split", "refcoco_val", "--concat"))
    assert "concat" in printed
    refs = pickle.loads((shapes / "refcoco/refs(unc).p").read_bytes())
    kept = [ref for ref in refs if ref["split"] == "val"]
    per_sentence = json.loads((tmp_path / "res_per_sentence.json").read_text())
    concat = json.loads((tmp_path / "res_concat.json").read_text())
    assert (per_sentence["protocol"], concat["protocol"]) == ("per_sentence", "concat")
    assert set(per_sentence["splits"]) == {"refcoco_val", "refcocog_test"}
    counts = [result["splits"]["refcoco_val"]["refined"]["masks"] for result in (concat, per_sentence)]
    assert counts == [len(kept), sum(len(ref["sentences"]) for ref in kept)]
    assert {"cIoU", "mIoU", "box_mIoU", "box_acc50"} <= concat["splits"]["refcoco_val"]["coarse"].keys()


@pytest.fixture
def evaluation(shapes, checkpoint, tmp_path, monkeypatch):
    """Evaluates one caption in this process."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "tests/helpers")
    data = shutil.copytree(shapes, tmp_path / "data")
    words = (CONFIG, "--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out", "--limit", 1)
    parser = evaluation_arguments("", splits=("val",), default=("val",))
    return Evaluation(parser.parse_args(list(map(str, words))))


@pytest.mark.parametrize("name", ["ReasonSeg", ""])
def test_data_lie_where_the_config_says(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flmm.paths.ROOT", tmp_path)  # the repository's may hold data
    config = read_config(ROOT / TINY_CONFIG)
    assert data_root(config, name) == str(Path("data", name or "shapes"))
    assert data_root(Config({"train_dataloader": {"dataset": {"json_file": "a/b/annotations/png.json"}}})) == "a/b"
    assert data_root(Config({"model": {}}), name) == str(Path("data", name or "coco"))
    Path("data/shapes", name).mkdir(parents=True)
    assert data_root(config, name) == str(Path("data/shapes", name))


def test_missing_data_are_said_in_a_line_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flmm.evaluation.run.build_model", None)
    monkeypatch.setattr(sys, "argv", ["", str(ROOT / TINY_CONFIG), "--data-root", "data/here"])
    for script in ("png", "refcoco", "reasonseg", "keywords"):
        with pytest.raises(SystemExit, match=f"multiprocess_eval_{script}.py: no annotation.* data/here/"):
            runpy.run_path(str(ROOT / f"scripts/multiprocess_eval_{script}.py"), run_name="__main__")


def test_records_of_another_reading_or_other_data_are_refused(evaluation):
    metrics = evaluate_png(evaluation, "val")
    assert evaluate_png(evaluation, "val") == metrics
    other = Path(evaluation.args.data_root, "other_config.py")
    other.write_text(Path(CONFIG).read_text().replace("a description", "a story"))
    asked = argparse.Namespace(**{**vars(evaluation.args), "config": str(other)})
    with pytest.raises(ValueError, match=r"another run \(reading: .* now\)"):
        evaluate_png(Evaluation(asked), "val")
    captions = Path(evaluation.args.data_root, "annotations/png_coco_val2017.json")
    captions.write_text(captions.read_text() + " ")
    with pytest.raises(ValueError, match=r"another run \(annotations: .* now\).*--overwrite"):
        evaluate_png(evaluation, "val")


def test_splits_that_are_evaluated_one_after_the_other_end_in_one_file(evaluation):
    evaluation.folder.mkdir()
    for split in ("refcoco_val", "refcocog_test"):
        evaluation.report("res", {"protocol": "concat"}, {split: split})
    file = evaluation.folder / "res.json"
    assert json.loads(file.read_text())["splits"] == {"refcoco_val": "refcoco_val", "refcocog_test": "refcocog_test"}
    evaluation.report("res", {"protocol": "per_sentence"}, {"refcoco_val": "again"})
    assert json.loads(file.read_text())["splits"] == {"refcoco_val": "again"}


def test_items_are_read_together_and_an_error_names_their_files():
    def model(samples, mode):
        if any(sample["pixel_values"] is None for sample in samples):
            raise ValueError("pixel_values is missing")
        return [{"pred_masks": sample["gt_masks"] * 2.0 - 1} for sample in samples]

    def sample(name, phrases):
        masks = torch.eye(4)[:, :, None].expand(4, 4, 4)[:phrases]
        return {"file_name": name, "gt_masks": masks, "pixel_values": name}

    items = [[sample("a.jpg", 1), sample("a.jpg", 2)], sample("b.jpg", 3)]
    one, other = evaluate_items(model, items)
    assert (one["file_name"], len(one["phrases"])) == ("a.jpg", 3)
    assert (other["file_name"], len(other["phrases"])) == ("b.jpg", 3)
    assert all(phrase["coarse"]["iou"] == 1 for phrase in one["phrases"] + other["phrases"])
    items[1]["phrases"] = ["one of three"]
    with pytest.raises(ValueError, match="^b.jpg: "):
        evaluate_items(model, items)
    items[1]["pixel_values"] = None
    with pytest.raises(ValueError, match="a.jpg, b.jpg: pixel_values is missing"):
        evaluate_items(model, items)


def test_a_checkpoint_is_known_by_its_content(checkpoint, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    assert file_digest(copy) == file_digest(checkpoint)
    copy.write_bytes(checkpoint.read_bytes() + b" ")
    assert file_digest(copy) != file_digest(checkpoint)


def test_the_store_resumes_and_refuses_gaps(tmp_path):
    store = RecordStore(tmp_path)
    store.claim({"weights": "a"})
    store.write(1, {"phrases": []})
    (store.samples / ".000000.json.123.part").write_text('{"phra')
    again = RecordStore(tmp_path)
    again.claim({"weights": "a"})
    assert again.missing(3) == [0, 2]
    with pytest.raises(RuntimeError, match="2 of 3 samples"):
        again.read(3)
    with pytest.raises(ValueError, match="weights: a there, b now"):
        again.claim({"weights": "b"})
    again.write(0, {"phrases": [{"mask": "long", "iou": 1}]})
    assert again.read(2) == [{"phrases": [{"iou": 1}]}, {"phrases": []}]
    again.path(1).write_text("")
    with pytest.raises(ValueError, match=r"000001\.json is damaged .*: delete it"):
        again.read(2)
    again.claim({"weights": "b"}, overwrite=True)
    assert again.missing(2) == [0, 1]
