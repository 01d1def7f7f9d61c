"""The recorded cases of tests/golden, on any device: what the reference computed, and how far off we are."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS / "helpers")]

import torch  # noqa: E402
from golden_cases import GoldenCase, build_llava, golden_names  # noqa: E402
from parity import METRICS, TOLERANCES, parity_errors  # noqa: E402

# The module of tests/models that builds the cases whose names begin so.
MODULES = {
    "llava15": "test_frozen_llava",
    "llava_next": "test_frozen_llava_next",
    "deepseek": "test_frozen_deepseek_vl",
    "hpt": "test_frozen_hpt",
    "mgm": "test_frozen_mgm",
    "qwen": "test_frozen_qwen",
}
CASES = golden_names(*MODULES)
READ = ("mask_attentions", "hidden_states")  # what the LMM gives; heads of random weights make more of its rounding
BOUNDS = {"float32": {"reading": TOLERANCES["value"], **TOLERANCES}, "bfloat16": {"reading": 0.1, "value": 0.4}}


def worst_errors(name: str, device: str, dtype: str) -> Iterator[tuple[str, str, float, float]]:
    """Kind of error, the worst quantity of it, its relative error, and the bound."""
    module = _module(next(file for prefix, file in MODULES.items() if name.startswith(prefix)))
    case = getattr(module, "MGMCase", GoldenCase)(name)
    model = getattr(module, "build", build_llava)(case)
    errors = parity_errors(case, model, device, getattr(torch, dtype))
    for kind, bound in BOUNDS[dtype].items():
        of_kind: dict[str, Any] = {what: error for what, error in errors.items() if _kind(what) == kind}
        worst = max(of_kind, key=of_kind.__getitem__)
        yield kind, worst, of_kind[worst], bound


def _kind(name: str) -> str:
    if name.startswith("grad/"):
        return "gradient"
    return "metric" if name.endswith(METRICS) else "reading" if name.endswith(READ) else "value"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / "models" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
