"""The log of a training, which is kept beside the weights."""

from __future__ import annotations

import sys
import time
from pathlib import Path


class Log:
    """Prints with the time since the start, and keeps the lines after the command that was typed.

    Args:
        path: The file.
        go_on: Add to it instead of beginning anew.
    """

    def __init__(self, path: Path, go_on: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.start = path, time.time()
        with path.open("a" if go_on else "w") as file:
            print("$ python", *sys.argv, file=file)

    def __call__(self, line: str) -> None:  # noqa: D102
        line = f"[{time.time() - self.start:6.0f} s] {line}"
        print(line, flush=True)
        with self.path.open("a") as file:
            print(line, file=file)
