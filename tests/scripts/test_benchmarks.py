"""The benchmarks run and write their figures; starting is as quick as promised."""

import importlib
import json
import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(tmp_path, script, *options):
    """The figures of a benchmark."""
    command = [sys.executable, f"scripts/benchmark/{script}", "--json", str(tmp_path / "figures.json"), *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads((tmp_path / "figures.json").read_text())


def column(sheet, name):
    return [row[sheet["columns"].index(name)] for row in sheet["rows"]]


def test_help_and_import_are_quick(tmp_path):
    figures = run(tmp_path, "startup.py", "--only", "help", "import", "--repeats", "1")
    seconds = {ratio["name"]: ratio["value"] for ratio in figures["ratios"]}
    assert 0 < seconds["flmm --help, CPU seconds"] < 1
    assert 0 < seconds["import flmm, CPU seconds"] < 2


@pytest.mark.slow
def test_annotations_are_read_with_less_memory(tmp_path, monkeypatch):
    benchmark = module("data", monkeypatch)
    benchmark.write_annotations(tmp_path / "small", benchmark.Sizes.small(8))
    benchmark.write_pictures(tmp_path / "small")
    monkeypatch.chdir(ROOT)
    file = tmp_path / "figures.json"
    options = ["--scale", "0.02", "--repeats", "1", "--workers", "0", "--step", "0.01"]
    monkeypatch.setattr(sys, "argv", ["data.py", "--folder", str(tmp_path), "--json", str(file), *options])
    benchmark.main()
    figures = json.loads(file.read_text())
    png, our_png, refcoco, our_refcoco = column(figures, "kept MB")
    assert our_png < png / 2
    assert our_refcoco < refcoco / 2
    (loader,) = figures["more"]
    assert column(loader, "workers") == [0]
    assert all(rate > 0 for rate in column(loader, "samples per second"))


def module(name, monkeypatch):
    """A benchmark that is not started."""
    monkeypatch.syspath_prepend(ROOT / "scripts/benchmark")
    return importlib.import_module(name)


TINY = "--shape tiny --sam vit_nano --repeats 1"
SMALL_RUNS = {
    "attention.py": "--layers 2 --heads 4 --width 64 --lengths 300 900 --repeats 1",
    "cost.py": "--shape tiny --sam vit_nano",
    "step.py": f"{TINY} --one-layer --no-reference",
}
GPU_PARTS = ["parity", "step_tiny", "attention_tiny", "generate_tiny", "memory_tiny", "texts_tiny", "sam"]


SAM_TASKS = ("encode image", "one global attention", "decode boxes", "automatic masks")


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALL_RUNS)
def test_other_benchmarks_run(script, tmp_path, monkeypatch):
    """In this process, which has imported most of what they need."""
    file = tmp_path / "figures.json"
    run_here(monkeypatch, script, *SMALL_RUNS[script].split(), "--json", str(file))
    figures = json.loads(file.read_text())
    assert len(figures["rows"]) > 1
    assert all(math.isfinite(ratio["value"]) and ratio["value"] > 0 for ratio in figures["ratios"])
    values = {ratio["name"]: ratio["value"] for ratio in figures["ratios"]}
    if script == "attention.py":
        assert values["capture's extra memory / the reference way's, S=900"] < 0.5


def run_here(monkeypatch, script, *options):
    monkeypatch.setattr(sys, "argv", [script, *options])
    monkeypatch.syspath_prepend(ROOT / "scripts/benchmark")
    monkeypatch.chdir(ROOT)
    runpy.run_path(f"scripts/benchmark/{script}", run_name="__main__")


@pytest.mark.slow
def test_the_run_for_a_gpu_tried_on_the_cpu(tmp_path, monkeypatch):
    options = ("--device", "cpu", "--tiny", "--repeats", "1", "--out", str(tmp_path))
    measure_sam_here(monkeypatch)
    with pytest.raises(SystemExit) as status:
        run_here(monkeypatch, "gpu.py", *options, "--only", *GPU_PARTS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (status.value.code, summary["failed"], summary["skipped"]) == (0, {}, [])
    assert list(summary["seconds"]) == GPU_PARTS
    assert (tmp_path / "ratios.png").stat().st_size > 10_000
    ratios = {(ratio["part"], ratio["name"]): ratio["value"] for ratio in summary["ratios"]}
    assert 0.75 < ratios["memory_tiny", "computed / measured, training step"] < 1.25
    assert {task for part, task in ratios if part == "sam"} == {
        *(f"SAM tiny, {task}: ours / 1.0, time" for task in SAM_TASKS),
        "SAM, bfloat16 encoder: IoU with float32's masks",
    }
    assert ratios["sam", "SAM, bfloat16 encoder: IoU with float32's masks"] > 0.98
    exact = {name: value for (part, name), value in ratios.items() if part == "parity" and "float32" in name}
    assert max(exact.values()) < 1e-2
    (share,) = json.loads((tmp_path / "step_tiny.json").read_text())["more"]
    assert all(isinstance(cell, str) or cell > 0 for cell in share["rows"][0])


def measure_sam_here(monkeypatch):
    """One task of SAM in a new process, as all are; the others in this one, which has imported what they need."""
    sam = module("sam", monkeypatch)
    in_a_process = sam.run

    def run(args, side, task):
        return (in_a_process if (side, task) == ("ours", SAM_TASKS[0]) else sam.measure)(args, side, task)

    monkeypatch.setattr(sam, "run", run)


def test_a_part_that_fails_leaves_the_figures_of_the_others(tmp_path, monkeypatch):
    """Out of memory, or the end of a benchmark's process: both are said, and the run goes on."""
    gpu, measure = module("gpu", monkeypatch), module("measure", monkeypatch)

    def ends(error):
        raise error

    good = measure.Report("good", ("a",), [(1.0,)], [measure.Ratio("too slow", 0.0, 1.0, at_most=False)])
    parts = [
        ("large", lambda: ends(torch.OutOfMemoryError("out of memory"))),
        ("ended", lambda: ends(SystemExit("no weights"))),
        ("good", lambda: good),
    ]
    monkeypatch.setattr(gpu, "parts", lambda args: iter(parts))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--out", str(tmp_path)])
    assert gpu.run(gpu.parse()) is False
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["failed"] == {"large": "OutOfMemoryError: out of memory", "ended": "SystemExit: no weights"}
    assert [ratio["part"] for ratio in summary["ratios"]] == ["good"]
    assert (tmp_path / "ratios.png").exists()
    assert (tmp_path / "good.json").exists()


def test_packages_that_are_missing_are_named_with_their_versions(monkeypatch):
    wheels = module("wheels", monkeypatch)
    assert wheels.missing() == ([], [])
    monkeypatch.setattr(wheels, "PURE", ("mmdet", "no-such-package"))
    assert wheels.missing() == (["no-such-package"], [])
    text = wheels.advice(["mmdet==3.3.0"], ["scipy==1.15.3"])
    assert "pip wheel --no-deps --wheel-dir wheels mmdet==3.3.0 scipy==1.15.3" in text
    assert "(not pure Python, so with this machine's Python and system: scipy==1.15.3)" in text
