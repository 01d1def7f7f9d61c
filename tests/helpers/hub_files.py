"""Configs, processors and weight names of released repositories, as the hub has them (tests/hub/README.md)."""

import json
import re
from pathlib import Path
from typing import Any

HUB = Path(__file__).parents[1] / "hub" / "repositories"


def folder_of(name: str) -> Path:
    """The folder of a repository `owner/name`."""
    return HUB / name.replace("/", "__")


def read(name: str, file: str = "config.json") -> Any:
    """What a JSON file of a repository holds."""
    return json.loads((folder_of(name) / file).read_text())


def weights(name: str) -> dict[str, list[int] | None]:
    """Shapes of a repository's weights by their names there; None where only the names are known."""
    found: dict[str, list[int] | None] = {}
    for pattern, shape in read(name, "weights.json")["weights"].items():
        numbered = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", pattern)
        before, first, last, after = numbered.groups() if numbered else (pattern, 0, 0, "")
        found |= {f"{before}{i if numbered else ''}{after}": shape for i in range(int(first), int(last) + 1)}
    return found
