"""Patches of upstream packages that no other test sees."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from mmengine.config import Config


def test_mmcv_can_be_imported_before_flmm(tmp_path):
    """As in scripts that import mmdet first; here mmcv alone, in a folder without the repository."""
    code = "import mmcv, mmcv._ext, flmm; print(mmcv._ext.nms)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "missing" in done.stdout, done.stderr
    from mmcv import _ext

    with pytest.raises(NotImplementedError, match=r"`nms` was called.*install `mmcv` 2\.1\.0"):
        _ext.nms()


@pytest.mark.slow
def test_xtuner_can_be_imported_before_flmm(tmp_path):
    """As `xtuner train` does: what it takes from transformers was there until transformers 5."""
    code = "import torch, sys; import xtuner.utils; print('flmm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.endswith("True\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("order", ["flmm.training.resume", "mmdet, flmm.training.resume"])
def test_runners_can_be_imported_in_any_order(order):
    """A patch of mmengine.runner that imports flmm.runner at once meets flmm's module half imported."""
    code = f"import {order}, mmengine.runner; from flmm.runner import CustomRunner; print('ready')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("ready\n"), done.stderr


def test_the_text_of_a_config_is_laid_out_once():
    text = Config({"a": {"b": 1}}).pretty_text
    assert Config({"a": {"b": 1}}).pretty_text is text
    assert Config({"a": {"b": 2}}).pretty_text == text.replace("1", "2") == "a = dict(b=2)\n"


def test_torch_knows_who_comes_first():
    (entry,) = (one for one in entry_points(group="torch.backends") if one.name == "flmm")
    assert entry.value == "flmm_early:start"


def test_a_process_without_xtuner_never_imports_flmm(tmp_path):
    code = "import torch, sys; print('flmm' in sys.modules, 'flmm_early' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "False True\n", done.stderr


def test_the_official_sam_is_not_mixed_with_ours(tmp_path):
    """Outside of the repository `import segment_anything` finds the package of PyPI until flmm is imported."""
    (tmp_path / "segment_anything").mkdir()
    (tmp_path / "segment_anything/__init__.py").touch()
    for code, says in (
        ("import segment_anything, flmm", "write `import flmm` before `import segment_anything`"),
        ("import flmm, segment_anything; segment_anything.sam_model_registry['vit_nano']", ""),
    ):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode == 0) == (not says), done.stderr
        assert says in done.stderr
