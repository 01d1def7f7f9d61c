"""How a script ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

MENDABLE = (ValueError, FileNotFoundError, FileExistsError, ConnectionError)  # what a user can mend


def run_script(main: Callable[[], None]) -> None:
    """Run a script; print what a user can mend in one line, and end with status 1 then."""
    try:
        main()
    except MENDABLE as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
