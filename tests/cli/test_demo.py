"""`flmm demo` from data to report, with a training of a few iterations."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flmm.cli.demo import ITERATIONS, Demo

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_demo_runs_and_reuses_what_is_there(tmp_path):
    for name in ("configs", "checkpoints", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "flmm.cli.main", "demo", "--output", "out"]
    command += ["--iterations", "10", "--limit", "2", "--pictures", "40"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/jpeg") == 9 + page.count("<figcaption>")
    assert page.count("<svg") == 4
    assert page.count('<a href="#') == page.count("<h3 id=") > 5
    assert "flmm train" in page
    for row in ("PNG val, untrained head", "refcoco_val, per_sentence", "refcocog_test, concat"):
        assert row in first.stdout

    assert first.stdout.count("== ") == 13
    assert first.stdout.count("$ flmm ") == first.stdout.count("$ accelerate launch ") == 6

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.findall(r"== (.*)", again.stdout) == ["make the shapes data"]


def test_what_another_config_made_is_dropped_and_what_others_made_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "train").mkdir()
    with pytest.raises(FileExistsError, match="train was not made by this demo"):
        Demo(tmp_path).drop_outdated()
    (tmp_path / "train").rmdir()
    for iterations, kept in ((ITERATIONS, True), (10, False)):
        Demo(tmp_path).drop_outdated()
        for name in ("train", "eval", "mine"):
            (tmp_path / name).mkdir(exist_ok=True)
        Demo(tmp_path, iterations).drop_outdated()
        assert (tmp_path / "train").exists() == (tmp_path / "eval").exists() == kept
        assert (tmp_path / "mine").exists()
