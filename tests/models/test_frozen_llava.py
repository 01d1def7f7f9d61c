import pytest
from golden_cases import GoldenCase, build_llava, golden_names
from parity import assert_parity


@pytest.mark.parametrize("name", golden_names("llava15"))
def test_parity(name):
    case = GoldenCase(name)
    assert_parity(case, build_llava(case))
