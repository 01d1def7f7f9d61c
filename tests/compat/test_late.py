"""Grounding imports no more than it uses; what was left out is there when it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GROUND = """
import sys
from PIL import Image
import flmm
from flmm.compat.late import LateModule

flmm.load().ground(Image.new("RGB", (64, 48)), "the sky", ["the sky"])
left_out = ("datasets", "pandas", "timm", "gradio", "deepspeed.ops", "mmdet.models.backbones", "mmdet.models.detectors",
            "mmseg.models.decode_heads", "torch._inductor.compile_fx", "tifffile.tifffile", "peft", "matplotlib",
            "mmengine.runner", "mmcv.ops", "mmdet.datasets")
assert not [name for name in left_out if name in sys.modules], [name for name in left_out if name in sys.modules]
assert "flmm.models.mask_head.mask_decoder" in sys.modules
assert isinstance(sys.modules["mmdet.models"], LateModule)

from mmdet.registry import MODELS
assert MODELS.get("FasterRCNN").__module__ == "mmdet.models.detectors.faster_rcnn"  # found by its name as a string
import mmdet.models
assert not isinstance(mmdet.models, LateModule)
from mmdet.models import CrossEntropyLoss
assert CrossEntropyLoss is MODELS.get("CrossEntropyLoss") is mmdet.models.losses.CrossEntropyLoss
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.models.backbones.unet import UNet
assert MMSEG_MODELS.get("FCNHead") and MMSEG_MODELS.get("UNet") is UNet
from mmengine.registry import OPTIMIZERS
assert OPTIMIZERS.get("Adafactor").__module__ == "transformers.optimization"
from mmcv.cnn import ConvModule, ResNet  # one has a home, the other is there once the package has run
assert ConvModule.__module__ == "mmcv.cnn.bricks.conv_module" and ResNet
names = {}
exec("from mmseg.models import *", names)
assert names["SegDataPreProcessor"] is MMSEG_MODELS.get("SegDataPreProcessor")

import deepspeed
assert isinstance(deepspeed, LateModule)
from deepspeed.utils import logger  # needs deepspeed/__init__.py to have run
assert not isinstance(deepspeed, LateModule) and deepspeed.utils.logger is logger
assert deepspeed.__version__.startswith("0.")
from xtuner.dataset import LLaVADataset
assert LLaVADataset.__module__ == "xtuner.dataset.llava"
print("all there")
"""

BROKEN = """
import sys
import flmm
from flmm.compat import late
late.LATE["half"] = {}
import half
for _ in range(2):
    try:
        half.name
    except ZeroDivisionError:
        continue
    raise AssertionError("no error")
print("all there")
"""


def run(code, *path):
    """In a fresh process: what was imported before must not help."""
    line = f"import sys; sys.path[:0] = {[str(ROOT), *map(str, path)]}\n"
    return subprocess.run([sys.executable, "-c", line + code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_grounding_imports_no_more_than_it_uses_and_the_rest_is_there():
    result = run(GROUND)
    assert result.stdout.endswith("all there\n"), result.stderr


def test_an_error_of_a_late_module_is_not_hidden(tmp_path):
    (tmp_path / "half.py").write_text("1 / 0\nname = 1\n")
    result = run(BROKEN, tmp_path)
    assert result.stdout.endswith("all there\n"), result.stderr
