"""What a machine with torch and transformers lacks to run the benchmarks: it may have no network."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pure Python all of them, so one wheel fits any machine. What else is imported comes with torch and transformers, or
# is in NOT_PURE.
PURE = (
    "accelerate",
    "addict",
    "ftfy",
    "iniconfig",
    "mmcv-lite",
    "mmdet",
    "mmengine",
    "mmsegmentation",
    "platformdirs",
    "pluggy",
    "pygments",
    "pytest",
    "rich",
    "segment-anything",
    "termcolor",
    "timm",
    "xtuner",
    "yapf",
)
NOT_PURE = ("matplotlib", "msgspec", "opencv-python-headless", "psutil", "scipy", "torchvision", "transformers")


def missing() -> tuple[list[str], list[str]]:
    """Packages that are not installed, as `name==version`: those whose wheels are pure Python, and others."""
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    absent = [[name for name in names if not _installed(name)] for names in (PURE, NOT_PURE)]
    pure, other = ([f"{name}=={pinned[name]}" if name in pinned else name for name in names] for names in absent)
    return pure, other


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def advice(pure: list[str], other: list[str]) -> str:
    """What to do about missing packages."""
    lines = [f"{len(pure) + len(other)} packages are missing here. Where there is network:"]
    lines += [f"    python -m pip wheel --no-deps --wheel-dir wheels {' '.join([*pure, *other])}"]
    if other:
        lines += [f"(not pure Python, so with this machine's Python and system: {' '.join(other)})"]
    lines += ["Copy the folder here, then:", "    python -m pip install --no-deps --no-index wheels/*.whl"]
    return "\n".join(lines)
