"""`flmm data check`: are data folders, or your file, complete and sound, and where does the missing come from?"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from flmm.console import show
from flmm.datasets.check_benchmarks import LAYOUTS, is_grandf
from flmm.datasets.check_parts import PARTS, Report
from flmm.datasets.own.check import check_file, own_sheet
from flmm.datasets.shapes import MANIFEST
from flmm.outputs import writable

SHAPES = "shapes"  # name of its folder in data
NAMES = ("data", "coco", SHAPES)  # folders that are checked before they are there


def check_data(root: str | Path, sample: int = 50, only: Sequence[str] = ()) -> Report:
    """Check a data directory.

    Args:
        root: A directory laid out like `data/coco` (docs/data.md), or one that holds such directories. One that is
            neither is checked as what it is to become, so that everything missing is named with its source; one that
            does not exist only under its name in docs/data.md.
        sample: Number of items of each part whose pictures and masks are opened; 0 or less opens all.
        only: Names of `PARTS` to check; all without.

    Returns:
        The report; `report.is_broken` tells whether something needed is missing or unsound.
    """
    root, report = Path(root), Report(sample)
    if root.exists() and not root.is_dir():
        report.broken(
            root,
            "neither a folder nor a .jsonl file",
            "name a folder laid out like data/coco, one that holds such folders, or your unpacked FILE.jsonl",
        )
        return report
    if not root.exists() and root.name not in NAMES and not any(is_it(root) for is_it in LAYOUTS):
        report.broken(
            root,
            "no such folder",
            "check the path; `flmm data check data/coco` lists what a data set needs and its sources, "
            f"`flmm data shapes --out {root}` makes a small one",
        )
        return report
    layouts = [root] if is_layout(root) else [path for path in sorted(root.glob("*")) if is_layout(path)]
    inside = [layout / name for layout in layouts for name in ("ReasonSeg", "GranDf") if (layout / name).is_dir()]
    folders = dict.fromkeys((root, *sorted(root.glob("*")), *inside))
    others = [(path, check) for path in folders for is_it, check in LAYOUTS.items() if is_it(path)]
    for path, check in () if only else others:
        report.source = _source(path.parent)
        check(path, report)
        report.source = ""
    if others and not layouts:
        return report
    if not layouts:
        report.source = _source(root)
        report.broken(
            root, "no data set here", "`flmm data shapes` makes a small one; the sources of the real one follow"
        )
        layouts = [root / "coco" if root.name == "data" else root]
    for layout in layouts:
        report.source = _source(layout)
        for name in only or PARTS:
            PARTS[name](layout, report)
        report.source = ""
    return report


def _source(layout: Path) -> str:
    """What makes the shapes data set in a folder; empty for another data set, whose parts have sources of their own."""
    if layout.name != SHAPES and not (layout / MANIFEST).is_file():
        return ""
    first = "; move what is there away first" if layout.is_dir() else ""
    return f"`flmm data shapes --out {layout}` makes {layout}{first}"


def is_layout(path: Path) -> bool:
    """Whether a directory is meant to be like `data/coco`."""
    names = ("annotations", "refcoco", "refcoco+", "refcocog")
    return path.is_dir() and not is_grandf(path) and any((path / name).is_dir() for name in names)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm data check`."""
    parser.add_argument(
        "root",
        nargs="?",
        default="data",
        help="a data set's folder (coco, ReasonSeg, GranDf), its parent, or your FILE.jsonl [data]",
    )
    parser.add_argument(
        "--sample", type=int, default=50, help="items per part whose files are opened, 0 or less for all"
    )
    parser.add_argument("--root", dest="base", help="FILE.jsonl: folder that its paths start from [that of the file]")
    parser.add_argument("--sheet", help="FILE.jsonl: contact sheet to draw [FILE_sheet.jpg]")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=[], help="check these parts only")


def run(args: argparse.Namespace) -> int:
    """Check, print a table, and return the exit status: 1 when something needed is broken."""
    file = Path(args.root)
    if file.suffix in (".jsonl", ".json") and not file.is_dir():
        report = check_file(file, args.base, writable(args.sheet or own_sheet(file)))
    else:
        report = check_data(file, args.sample, args.only)
    show(report.findings, "data")
    return int(report.is_broken)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m flmm.datasets.check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
