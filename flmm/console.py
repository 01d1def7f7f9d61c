"""Where tables are printed, and the findings of a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from flmm import __version__

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000  # characters: more than any table needs
COLORS = {"ok": "green", "note": "yellow", "broken": "red"}


def console() -> Console:
    """Return a console as wide as the terminal; in a file or pipe it never cuts a table."""
    from rich.console import Console

    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDE)


@dataclass(frozen=True)
class Finding:
    """One line of a check's report; `broken` makes the check fail."""

    state: Literal["ok", "note", "broken"]
    what: str
    text: str
    cure: str = ""


def show(findings: Sequence[Finding], title: str = f"flmm {__version__}") -> None:
    """Print findings as a table, in a file or pipe as one line each, and the cures below them."""
    from rich.markup import escape
    from rich.table import Column, Table

    out = console()
    say = partial(out.print, soft_wrap=True, markup=False, highlight=False)
    if out.is_terminal:
        table = Table("", Column(overflow="fold"), Column(overflow="fold"), title=title, title_justify="left")
        table.show_header = False
        for finding in findings:
            state = f"[{COLORS[finding.state]}]{finding.state}[/]"
            table.add_row(state, escape(finding.what), escape(finding.text))
        out.print(table)
    else:
        say(title)
        for finding in findings:
            say(f"{finding.state:7}{finding.what}: {finding.text}")
    for cure in dict.fromkeys(finding.cure for finding in findings if finding.cure):
        say(f"- {cure}")
