"""Draws the ratios of benchmarks, each beside its bound: draw.py FOLDER_OF_JSON OUT.png."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402

LONGEST = 10  # a bar that misses its bound by more is cut off there
KEPT, MISSED = "#2a6f97", "#c44536"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    files = sorted(args.folder.glob("*.json"))
    if not files:
        raise SystemExit(f"{args.folder} holds no JSON file: run the benchmarks with --json {args.folder}/NAME.json")
    ratios = [ratio for file in files for ratio in json.loads(file.read_text())["ratios"]]
    draw(ratios, args.out)
    print(f"{len(ratios)} ratios of {len(files)} benchmarks drawn in {args.out}")


def draw(ratios: list[dict[str, Any]], out: Path) -> None:
    """Draws ratios, as they are in the JSON files."""
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.34 * len(ratios)), layout="constrained")
    for place, ratio in enumerate(reversed(ratios)):
        # the share of the bound that is used: 1 is the bound itself, whichever side of it is good
        above, below = (ratio["value"], ratio["limit"]) if ratio["at_most"] else (ratio["limit"], ratio["value"])
        used = min(max(above / below, 0), LONGEST) if below else LONGEST
        axes.barh(place, used, color=KEPT if used <= 1 else MISSED)
        axes.text(used + 0.02, place, f"{ratio['value']:.3g}", va="center", fontsize=8)
    labels = [f"{r['name']} ({'≤' if r['at_most'] else '≥'} {r['limit']:g})" for r in reversed(ratios)]
    axes.set_yticks(range(len(ratios)), labels, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("share of the bound that is used; the line is the bound")
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()
