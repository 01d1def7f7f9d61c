"""Where tables are printed, how long work shows that it goes on, and the findings of a check."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TextIO

from flmm import __version__

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000  # characters: more than any table needs
EVERY = 30  # seconds between two lines about long work
COLORS = {"ok": "green", "note": "yellow", "broken": "red"}


def console() -> Console:
    """Return a console as wide as the terminal; in a file or pipe it never cuts a table."""
    from rich.console import Console

    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDE)


def progress(items: Any = None, **options: Any) -> Any:
    """Show how far work has come: a bar in the terminal, in a file or pipe a line now and then.

    Args:
        items: What is worked through, if it is a sequence or an iterator.
        **options: Of `tqdm.tqdm`: total, desc, unit, disable, ...

    Returns:
        The bar, which gives the items.
    """
    from tqdm import tqdm

    if not sys.stderr.isatty():
        options |= {"file": _Lines(sys.stderr), "mininterval": EVERY, "maxinterval": 2 * EVERY, "ascii": True}
        options |= {"bar_format": "{l_bar} {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"}
    return tqdm(items, **options)


class _Lines:
    """A stream that makes a line of each state of a bar."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        """Write a state; the carriage return in front of it, and the blanks behind it, are for terminals."""
        if state := text.strip():
            self.stream.write(f"{state}\n")

    def flush(self) -> None:
        """Hand on what was written."""
        self.stream.flush()


@dataclass(frozen=True)
class Finding:
    """One line of a check's report; `broken` makes the check fail.

    Attributes:
        state: How it is.
        what: What was looked at.
        text: What was found.
        cure: What to do about it, once for all findings that it is for.
        file: What the cure brings, where that is to be said.
    """

    state: Literal["ok", "note", "broken"]
    what: str
    text: str
    cure: str = ""
    file: str = ""


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
    for cure in cures(findings):
        say(f"- {cure}")


def cures(findings: Sequence[Finding]) -> list[str]:
    """Return what to do about findings, each cure once, behind the files that it brings."""
    files: dict[str, dict[str, None]] = {}
    for finding in findings:
        files.setdefault(finding.cure, {}).update({finding.file: None} if finding.file else {})
    return [f"{', '.join(names)}: {cure}" if names else cure for cure, names in files.items() if cure]


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: 1 text, 2 texts."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
