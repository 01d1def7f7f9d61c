"""docs/own_data.md from its first command to its last, and what training may not touch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger
from PIL import Image
from typed import typed, without_waiting

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A folder in which the page's commands were run, and what they printed."""
    folder = tmp_path_factory.mktemp("walk")
    for name in ("configs", "checkpoints", "scripts", "flmm"):
        (folder / name).symlink_to(ROOT / name)
    commands = "".join(re.findall(r"```bash\n(.*?)```", (ROOT / "docs/own_data.md").read_text(), re.DOTALL))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "1",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=folder, env=environment, text=True, capture_output=True, timeout=3000
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout


@pytest.mark.slow
def test_the_page_ends_with_a_head_and_a_picture(walked):
    folder, printed = walked
    assert "48 lines, 12 pictures" in " ".join(printed.split())
    for name in ("train_sheet.jpg", "val_sheet.jpg"):
        assert Image.open(folder / "data/own" / name).width == 320 * 4
    metrics = json.loads((folder / "work_dirs/own/eval/own_val.json").read_text())["splits"]["val"]
    assert metrics["images"] == 16  # four texts of each of four pictures
    assert metrics["refined"]["png"]["all"]["average_recall"] > 60
    assert Image.open(folder / "work_dirs/own/picture.png").width > 500


@pytest.mark.slow
def test_training_leaves_the_LMM_as_it_is(walked, monkeypatch, capsys):
    folder, _ = walked
    monkeypatch.chdir(folder)
    without_waiting(monkeypatch)
    Path("prompts.txt").write_text("What is it?\n")
    config = ("configs/own/frozen_tiny_llava_own.py", "--max-new-tokens", 5)
    for more in (("--steps", 2), ("--checkpoint", "work_dirs/own/iter_60.pth", "--prompts", "prompts.txt")):
        typed(monkeypatch, "scripts/check_frozen.py", *config, *more)
        assert "the LMM is untouched" in capsys.readouterr().out
        files = [one.baseFilename for one in MMLogger.get_current_instance().handlers if hasattr(one, "baseFilename")]
        assert all(map(os.path.exists, files))  # later messages have somewhere to go
