"""Says what this machine has, what differs from the tested versions, what is missing, and how to cure it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from flmm.config import TINY_CHECKPOINT, TINY_CONFIG
from flmm.console import Finding, show
from flmm.paths import locate

SAM_L = "checkpoints/sam_vit_l_0b3195.pth"
CURE_FILES = (
    "missing files of the repository: run from its root; `git checkout -- configs checkpoints` brings them back"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`flmm doctor` takes no argument."""


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns 1 when something that everything needs is broken."""
    findings = [*machine(), *packages(), *files()]
    show(findings)
    return int(any(finding.state == "broken" for finding in findings))


def machine() -> Iterator[Finding]:
    """Python, processors, memory, disk, GPUs."""
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    cure = "" if good else "make a .venv with Python 3.11 or 3.12: `make clean install PYTHON=...`"
    yield Finding("ok" if good else "broken", "python", f"{version} on {platform.platform()}", cure)
    free = shutil.disk_usage(".").free / 2**30
    cure = "" if free > 2 else "free some disk space: checkpoints and data need at least 2 GB"
    yield Finding("ok" if free > 2 else "note", "disk", f"{free:.0f} GB free here", cure)
    yield Finding("ok", "processor", f"{os.cpu_count()} cores")
    yield from gpus()


def gpus() -> Iterator[Finding]:
    """What torch can use."""
    try:
        import torch
    except ImportError as error:
        yield Finding("broken", "torch", str(error), "`make install`")
        return
    if not torch.cuda.is_available():
        text = "no GPU: the tiny model is quick on a CPU, models of 1 B and more want a GPU"
        yield Finding("note", "device", text, "")
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding("ok", f"device cuda:{index}", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GB")


def packages() -> Iterator[Finding]:
    """Installed versions against the pins of requirements.txt; only those that matter are listed when right."""
    pins = Path(__file__).parents[2] / "requirements.txt"
    if not pins.is_file():
        yield Finding("note", "packages", f"{pins} is not there: versions cannot be compared")
        return
    wrong = list(differing(pins.read_text().splitlines()))
    yield from wrong
    if not wrong:
        yield Finding("ok", "packages", f"all as pinned in {pins.name}")


def differing(lines: list[str]) -> Iterator[Finding]:
    """Pins `name==version ; marker` of this platform that are missing or differ."""
    from packaging.requirements import Requirement

    for line in lines:
        if not line.strip() or line.lstrip().startswith(("#", "-")):
            continue
        pin = Requirement(line.split(" #")[0])
        if pin.marker is not None and not pin.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            yield Finding(
                "broken",
                pin.name,
                f"not installed, {pin.specifier} is needed",
                "`make install` installs what is missing, in .venv",
            )
            continue
        if not pin.specifier.contains(installed, prereleases=True):
            text = f"{installed} is installed, {pin.specifier} is tested"
            yield Finding("note", pin.name, text, "`make install` puts the tested version in .venv")


def files() -> Iterator[Finding]:
    """The embedded weights, and the data."""
    for path in (TINY_CONFIG, "checkpoints/tiny_llava", "checkpoints/sam_vit_nano.pth", TINY_CHECKPOINT):
        there = Path(locate(path)).exists()
        cure = "" if there else CURE_FILES
        yield Finding("ok" if there else "broken", path, "there" if there else "missing", cure)
    optional = {
        "data/shapes": "`flmm data shapes` makes data/shapes",
        "data/coco": "data/coco is only for real data: see docs/data.md and `flmm data check`",
        SAM_L: "sam_vit_l is only for real LMMs: `flmm download sam_vit_l`",
    }
    for path, cure in optional.items():
        there = Path(locate(path)).exists()
        yield Finding("ok" if there else "note", path, "there" if there else "missing", "" if there else cure)
