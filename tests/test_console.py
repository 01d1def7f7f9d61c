"""What commands print into a file, and in a terminal."""

import sys

from tqdm import tqdm

from flmm.console import Finding, counted, cures, progress


def test_long_work_says_in_a_file_that_it_goes_on(capsys, monkeypatch):
    """A line at the beginning and one at the end, and others every half minute between."""
    assert list(progress(range(100), desc="captions", unit="caption")) == list(range(100))
    first, last = capsys.readouterr().err.split("\n")[:-1]
    assert first.startswith("captions:   0%| 0/100 ")
    assert last.startswith("captions: 100%| 100/100 ")

    monkeypatch.setattr("flmm.console.EVERY", 0)
    list(progress(iter(range(4)), total=4, miniters=1))
    states = [line.partition("|")[0] for line in capsys.readouterr().err.splitlines()]
    assert list(dict.fromkeys(states)) == ["0%", "25%", "50%", "75%", "100%"]


def test_in_a_terminal_it_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(total=3) as bar:
        assert type(bar) is tqdm
        bar.update(3)
    assert "\r100%|" in capsys.readouterr().err


def test_a_bar_can_be_hidden(capsys):
    list(progress(range(3), disable=True))
    assert capsys.readouterr().err == ""


def test_a_cure_is_said_once():
    one, two = (Finding("broken", "x", "missing", "fetch it", file) for file in ("a.json", "b.json"))
    assert cures([one, two, Finding("ok", "y", "there"), Finding("note", "z", "old", "renew it")]) == [
        "a.json, b.json: fetch it",
        "renew it",
    ]
    assert [counted(1, "text"), counted(0, "text"), counted(2000, "text")] == ["1 text", "0 texts", "2,000 texts"]
