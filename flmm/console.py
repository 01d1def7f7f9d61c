"""Where tables are printed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000  # characters: more than any table needs


def console() -> "Console":
    """Return a console as wide as the terminal; in a file or pipe it never cuts a table."""
    from rich.console import Console

    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDE)
