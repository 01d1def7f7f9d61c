"""The survey of image-text types: one type end to end, kept results, and the page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "scripts/survey_lmms.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_a_type_is_tried_in_its_process_and_the_result_kept(tmp_path):
    """Qwen3-VL grounds; BLIP-2 has no place for a picture and says so."""
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    run("qwen3_vl", "blip-2", "--results", results, "--out", page)
    found = json.loads(results.read_text())
    assert (found["qwen3_vl"]["stage"], found["qwen3_vl"]["rule"]) == ("done", "PatchGrid()")
    assert found["qwen3_vl"]["attention_error"] < 1e-5
    assert found["blip-2"]["stage"] != "done"
    text = page.read_text()
    assert "2 types: **1 ground by config**, 1 do not, " in text
    assert "| `qwen3_vl` | `PatchGrid()` | 13 x 20 |" in text
    assert "Q-Former" in text
