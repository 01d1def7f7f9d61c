"""`flmm demo` from data to report, with a training of a few iterations."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_demo_runs_and_reuses_what_is_there(tmp_path):
    command = [sys.executable, "-m", "flmm.cli.main", "demo", "--iterations", "10", "--limit", "2"]
    command += ["--output", str(tmp_path)]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") == 7
    assert "<svg" in page
    assert "xtuner train" in page
    for row in ("PNG val, untrained head", "refcoco_val, per_sentence", "refcocog_test, concat"):
        assert row in first.stdout

    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.findall(r"== (.*)", again.stdout) == ["make the shapes data"]
    assert first.stdout.count("== ") == 8
