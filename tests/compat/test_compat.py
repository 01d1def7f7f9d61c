"""Patches of upstream packages that no other test sees."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest


def test_mmcv_can_be_imported_before_flmm(tmp_path):
    """As in scripts that import mmdet first; here mmcv alone, in a folder without the repository."""
    code = "import mmcv, mmcv._ext, flmm; print(mmcv._ext.nms)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "missing" in done.stdout, done.stderr
    from mmcv import _ext

    with pytest.raises(NotImplementedError, match=r"`nms` was called.*install `mmcv` 2\.1\.0"):
        _ext.nms()


def test_flmm_comes_first_in_xtuner_train_alone():
    """Before xtuner builds a runner, where a config in the reference's form names its classes lazily."""
    (entry,) = (one for one in entry_points(group="torch.backends") if one.name == "flmm")
    assert entry.value == "flmm_early:start"
    code = "import sys, flmm_early; flmm_early.start(); print('flmm' in sys.modules); "
    code += "sys.argv[0] = '/x/xtuner/tools/train.py'; flmm_early.start(); print('flmm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
