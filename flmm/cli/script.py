"""How a script ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

MENDABLE = (  # what a user can mend
    ValueError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ConnectionError,
)


def run_script(main: Callable[[], None]) -> None:
    """Run a script; print what a user can mend in one line, and end with status 1 then."""
    try:
        main()
    except MENDABLE as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {said(error)}")


def said(error: Exception) -> str:
    """Say what is wrong; of an error of the operating system its file and reason, without the number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)
