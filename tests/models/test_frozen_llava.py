import pytest
import torch
from golden_cases import GoldenCase, golden_names
from parity import assert_parity

from flmm.models.frozen_llava import FrozenLlavaSAM
from llava.modeling_llava import CustomLlavaForConditionalGeneration


def build(case: GoldenCase) -> FrozenLlavaSAM:
    llava = {
        "type": CustomLlavaForConditionalGeneration.from_pretrained,
        "pretrained_model_name_or_path": str(case.dir / "backbone"),
        "torch_dtype": torch.float32,
    }
    return FrozenLlavaSAM(model=llava, **case.head_config())


@pytest.mark.parametrize("name", golden_names("llava15"))
def test_parity(name):
    case = GoldenCase(name)
    assert_parity(case, build(case))
