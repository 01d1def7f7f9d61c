"""Patches of upstream packages that no other test sees."""

import subprocess
import sys

import pytest


def test_mmcv_can_be_imported_before_flmm(tmp_path):
    """As in scripts that import mmdet first; here mmcv alone, in a folder without the repository."""
    code = "import mmcv, mmcv._ext, flmm; print(mmcv._ext.nms)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "missing" in done.stdout, done.stderr
    from mmcv import _ext

    with pytest.raises(NotImplementedError, match=r"`nms` was called.*install `mmcv` 2\.1\.0"):
        _ext.nms()
