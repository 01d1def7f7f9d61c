"""Patches of upstream packages that no other test sees."""

import subprocess
import sys

import pytest
from mmengine.config import Config, config

import flmm  # noqa: F401  (applies the patches)


def test_a_config_is_laid_out_once_and_as_before(monkeypatch):
    from yapf.yapflib.yapf_api import FormatCode

    texts = []
    monkeypatch.setattr("yapf.yapflib.yapf_api.FormatTree", _noted(texts))
    settings = Config({"model": {"type": "A", "weights": list(range(60))}, "mark": "of this test"})
    first = settings.pretty_text
    assert settings.pretty_text == first
    assert len(texts) == 1
    settings.mark = "changed"
    changed = settings.pretty_text
    assert len(texts) == 2
    assert "mark = 'changed'" in changed
    monkeypatch.setattr(config, "FormatCode", FormatCode)
    assert settings.pretty_text == changed


def _noted(calls):
    from yapf.yapflib import yapf_api

    lay_out = yapf_api.FormatTree

    def format_tree(*args, **kwargs):
        calls.append(args)
        return lay_out(*args, **kwargs)

    return format_tree


def test_mmcv_can_be_imported_before_flmm(tmp_path):
    """As in scripts that import mmdet first; here mmcv alone, in a folder without the repository."""
    code = "import mmcv, mmcv._ext, flmm; print(mmcv._ext.nms)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "missing" in done.stdout, done.stderr
    from mmcv import _ext

    with pytest.raises(NotImplementedError, match=r"`nms` was called.*install `mmcv` 2\.1\.0"):
        _ext.nms()
