"""Many users at the same time: nothing is lost or mixed up. `scripts/benchmark/web.py` has the full load."""

import argparse
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/benchmark/web.py"


@pytest.mark.slow
def test_no_answer_is_lost_or_mixed_up(model):
    load = runpy.run_path(str(SCRIPT))["load"]
    tally = load(model, argparse.Namespace(users=6, seconds=0, tokens=8, question="What is shown?"))
    assert dict(tally.counts) == {"right": 12}, tally.errors
