"""Draws whether LMMs that talk better also ground better: visualize_ranks.py RESULTS... --out ranks.png.

Each result file is of one LMM: {"model": "...", "chat": {"MMBench": 64.3, ...}, "grounding": {"refcoco_val": 75.2}}.
Scores may be nested, more is better. LMMs are ranked on every benchmark (1 is best, ties share the mean of their
ranks). The picture shows the mean of an LMM's ranks.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import rankdata, spearmanr

from flmm.evaluation.tables import print_table
from flmm.outputs import writable

SIDES = ("chat", "grounding")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="a JSON file for each LMM, at least two")
    parser.add_argument("--out", default="ranks.png", help="picture to write [%(default)s]")
    args = parser.parse_args(argv)
    try:
        out, results = writable(args.out, *args.results), [read(Path(path)) for path in args.results]
        ranks = {side: mean_ranks([result[side] for result in results], args.results, side) for side in SIDES}
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    names = [result["model"] for result in results]
    correlation = float(spearmanr(ranks["chat"], ranks["grounding"]).statistic)
    draw(names, ranks["chat"], ranks["grounding"], correlation, out)
    order = np.argsort(ranks["grounding"])
    rows = [(names[index], float(ranks["chat"][index]), float(ranks["grounding"][index])) for index in order]
    print_table(f"mean ranks, drawn in {out}; rank correlation {correlation:.2f}", ("LMM", *SIDES), rows)


def read(path: Path) -> dict[str, Any]:
    """The name and the flat scores of a result file; ValueError when it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        result = {"model": str(content["model"])} | {side: dict(leaves(content[side])) for side in SIDES}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no result file ({error!r}): it needs 'model', 'chat' and 'grounding'") from error
    if empty := [side for side in SIDES if not result[side]]:
        raise ValueError(f"{path} has no score under {empty}")
    return result


def leaves(scores: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a nested dict, named by their path."""
    for key, value in scores.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            if not np.isfinite(score := float(value)):
                raise ValueError(f"{prefix}{key} is {value}, which has no rank")
            yield f"{prefix}{key}", score


def mean_ranks(scores: list[dict[str, float]], files: Sequence[str], side: str) -> np.ndarray:
    """[N] mean over the benchmarks of each LMM's rank; ValueError when one lacks a benchmark, or there is one LMM."""
    if len(scores) < 2:
        raise ValueError("one LMM has no rank: give the results of at least two")
    names = sorted({name for one in scores for name in one})
    for file, one in zip(files, scores, strict=True):
        if missing := [name for name in names if name not in one]:
            raise ValueError(f"{file} lacks {missing} under {side!r}, which others have: ranks need every score")
    return np.mean([rankdata([-one[name] for one in scores]) for name in names], axis=0)


def draw(names: list[str], chat: np.ndarray, grounding: np.ndarray, correlation: float, out: Path) -> None:
    """Writes the picture: a labeled point for each LMM."""
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.scatter(chat, grounding)
    for name, x, y in zip(names, chat, grounding, strict=True):
        axes.annotate(name, (x, y), xytext=(6, 4), textcoords="offset points")
    axes.set(xlabel="mean rank of talking (1 is best)", ylabel="mean rank of grounding (1 is best)")
    axes.set(title=f"{len(names)} LMMs, rank correlation {correlation:.2f}")
    axes.invert_xaxis()
    axes.invert_yaxis()
    figure.savefig(out)


if __name__ == "__main__":
    main()
