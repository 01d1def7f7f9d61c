"""`flmm demo` from data to report, with a training of a few iterations."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flmm.cli.demo import ITERATIONS, Demo, Step, _run, shown
from flmm.cli.main import main

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


def test_a_demo_replaces_no_other_and_nothing_else(tmp_path, monkeypatch):
    """A trained head takes ten minutes: another length once deleted it."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "train").mkdir()
    with pytest.raises(FileExistsError, match="train is of something else; this demo .* Name another --output"):
        Demo(tmp_path).claim()
    (tmp_path / "train").rmdir()
    for demo in (Demo(tmp_path, 10), Demo(tmp_path), Demo(tmp_path, limit=2)):
        demo.claim()  # nothing was made yet
    (tmp_path / "train").mkdir()
    (tmp_path / "train/iter_800.pth").touch()
    for same in (Demo(tmp_path), Demo(tmp_path, limit=3)):
        same.claim()
    for other, says in ((Demo(tmp_path, 10), "of 10 iterations"), (Demo(tmp_path, pictures=40), "40 pictures")):
        with pytest.raises(
            FileExistsError, match=f"train is of {ITERATIONS} iterations, all .*; this demo is .*{says}"
        ):
            other.claim()
    assert (tmp_path / "train/iter_800.pth").is_file()


def test_figures_of_another_limit_are_not_mixed(tmp_path):
    whole, some = Demo(tmp_path).made(), Demo(tmp_path, limit=2).made()
    assert whole.checkpoint == some.checkpoint
    figures = [{*made.metrics.values(), made.abilities, made.records} for made in (whole, some)]
    assert len(figures[0]) == 6
    assert not figures[0] & figures[1]


@pytest.mark.parametrize("limit", [None, 2])
def test_the_report_names_the_commands_of_this_demo(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("flmm.cli.demo.free_sentence", lambda root: (root / "a.jpg", "a star", ["a star"]))
    monkeypatch.setattr("flmm.cli.demo.first_query", lambda root: (root / "a.jpg", "What is it?"))
    times = tmp_path / "steps.json"
    demos = [Demo(tmp_path, limit=one) for one in (None, 2)]
    commands = [shlex.join(shown(step.command)) for demo in demos for step in demo.steps()]
    times.write_text(json.dumps(dict.fromkeys(commands, 1.0)))
    evaluations = [one for one in Demo(tmp_path, limit=limit).seconds(times) if "eval_png" in one]
    assert len(evaluations) == 2
    assert sum("--limit 2 " in one for one in evaluations) == (2 if limit else 0)


def test_a_training_that_is_stopped_saves_before_the_demo_ends(tmp_path):
    saving = (
        "import os, signal, time; asked = []; signal.signal(signal.SIGINT, lambda *_: asked.append(1))\n"
        "os.kill(os.getppid(), signal.SIGINT)\nwhile not asked: time.sleep(0.01)\n"
        "time.sleep(0.5); print('Iter(train) [ 7/ 9]', flush=True); open('saved', 'w')"
    )
    (tmp_path / "train").mkdir()
    command = (sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {saving}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of xdist ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            _run(Step("train", command, tmp_path / "made", tmp_path / "train/log"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "saved").exists()
    assert "7/ 9" in (tmp_path / "train/log").read_text()


def test_a_stopped_demo_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Demo, "run", stop)
    assert main(["demo", "--output", str(tmp_path)]) == 130
    assert "stopped; the same command continues" in capsys.readouterr().err
