"""The benchmarks run and write their figures; starting is as quick as promised."""

import json
import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

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
def test_annotations_are_read_with_less_memory(tmp_path):
    options = ("--scale", "0.02", "--repeats", "1", "--workers", "0", "--step", "0.01")
    figures = run(tmp_path, "data.py", "--folder", str(tmp_path), *options)
    png, our_png, refcoco, our_refcoco = column(figures, "kept MB")
    assert our_png < png / 2
    assert our_refcoco < refcoco / 2
    (loader,) = figures["more"]
    assert column(loader, "workers") == [0]
    assert all(rate > 0 for rate in column(loader, "samples per second"))


TINY = "--shape tiny --sam vit_nano --repeats 1"
SMALL_RUNS = {
    "attention.py": "--layers 2 --heads 4 --width 64 --lengths 300 900 --repeats 1",
    "batch.py": f"{TINY} --sizes 1 2",
    "cost.py": "--shape tiny --sam vit_nano",
    "generate.py": f"{TINY} --tokens 4",
    "memory.py": f"{TINY} --check",
    "step.py": f"{TINY} --one-layer --no-reference",
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALL_RUNS)
def test_other_benchmarks_run(script, tmp_path, monkeypatch):
    """In this process, which has imported most of what they need."""
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", [script, *SMALL_RUNS[script].split(), "--json", str(file)])
    monkeypatch.syspath_prepend(ROOT / "scripts/benchmark")
    monkeypatch.chdir(ROOT)
    runpy.run_path(f"scripts/benchmark/{script}", run_name="__main__")
    figures = json.loads(file.read_text())
    assert len(figures["rows"]) > 1
    assert all(math.isfinite(ratio["value"]) and ratio["value"] > 0 for ratio in figures["ratios"])
    values = {ratio["name"]: ratio["value"] for ratio in figures["ratios"]}
    if script == "attention.py":
        assert values["capture's extra memory / the reference way's, S=900"] < 0.5
    if script == "memory.py":
        assert 0.75 < values["computed / measured, training step"] < 1.25
