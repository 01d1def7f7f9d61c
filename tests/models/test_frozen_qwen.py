import pytest
import torch
from golden_cases import GoldenCase, golden_names
from parity import assert_parity
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from flmm.datasets.qwen_processors import CustomQwenImageProcessor
from flmm.datasets.sample import SampleBuilder
from flmm.models.frozen_qwen import FrozenQwenSAM


def build(case: GoldenCase) -> FrozenQwenSAM:
    qwen = {
        "type": Qwen2_5_VLForConditionalGeneration.from_pretrained,
        "pretrained_model_name_or_path": str(case.dir / "backbone"),
        "torch_dtype": torch.float32,
    }
    return FrozenQwenSAM(model=qwen, **case.head_config())


@pytest.mark.parametrize("name", golden_names("qwen"))
def test_parity(name):
    case = GoldenCase(name)
    assert_parity(case, build(case))
