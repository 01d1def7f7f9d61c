"""The benchmarks run and write their figures; starting is as quick as promised."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(tmp_path, script, *options):
    """The figures of a benchmark."""
    command = [sys.executable, f"scripts/benchmark/{script}", "--json", str(tmp_path / "figures.json"), *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads((tmp_path / "figures.json").read_text())


def test_help_and_import_are_quick(tmp_path):
    figures = run(tmp_path, "startup.py", "--only", "help", "import", "--repeats", "1")["figures"]
    assert 0 < figures["flmm --help"]["here"]["cpu"] < 1
    assert 0 < figures["import flmm"]["here"]["cpu"] < 2


@pytest.mark.slow
def test_annotations_are_read_with_less_memory(tmp_path):
    options = ("--scale", "0.02", "--repeats", "1", "--workers", "0", "1", "--step", "0.01")
    figures = run(tmp_path, "data.py", "--folder", str(tmp_path), *options)
    for naive, ours in (map(dict, ways.values()) for ways in figures["reading"].values()):
        assert ours["kept_mb"] < naive["kept_mb"] / 2
    assert all(figure["samples_per_second"] > 0 for figure in figures["loader"].values())
