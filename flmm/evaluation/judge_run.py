"""Judging result files of the visual chain-of-thought benchmark: the commands that both scripts share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flmm.console import progress
from flmm.evaluation.answer_scores import SCORES, mean_scores, means_of_subsets
from flmm.evaluation.judge import Judge, cost, judge_records
from flmm.evaluation.records import write_json
from flmm.evaluation.tables import print_table

NEEDED = ("question", "gt", "answer")


def judge_arguments(description: str | None) -> argparse.ArgumentParser:
    """Make the command line of both scripts."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--judge-url", help="address of an OpenAI-compatible server [$OPENAI_API_URL, else OpenAI's]")
    add("--judge-model", default="gpt-3.5-turbo-1106", help="its model; the default is the reference's")
    add("--parallel", type=int, default=4, help="requests at a time")
    add("--timeout", type=float, default=60.0, help="seconds to wait for a reply")
    add("--tries", type=int, default=5, help="how often a request is made")
    add("--pause", type=float, default=5.0, help="seconds before the second try, doubled each time")
    add("--dry-run", action="store_true", help="print what would be asked and what it would take; ask nothing")
    add("--offline", action="store_true", help="scores that need no judge only")
    return parser


def result_files(folder: str | Path) -> list[Path]:
    """List the result files in a folder.

    Raises:
        FileNotFoundError: When there is none.
    """
    files = [file for file in sorted(Path(folder).glob("*.json")) if isinstance(read_json(file), list)]
    if not files:
        raise FileNotFoundError(f"no result file of visual_cot_inference.py in {folder}")
    return files


def read_json(file: Path) -> Any:
    """Read a JSON file; ValueError that names it when it is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}): it is damaged") from error


def read_results(file: str | Path) -> list[dict[str, Any]]:
    """Read the records of a result file.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it holds something else.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"no result file {file}")
    records = read_json(Path(file))
    known = isinstance(records, list) and all(isinstance(record, dict) for record in records)
    if not known or not records or any(key not in record for record in records for key in NEEDED):
        raise ValueError(f"{file} is no list of records with {', '.join(NEEDED)}: name a file of visual_cot_inference")
    return records


def run(args: argparse.Namespace, files: Callable[[], Sequence[Path]]) -> int:
    """Judge result files, print a table and write `judged/<subset>.json` beside each; return the exit status."""
    try:
        judge = Judge.from_environment(
            args.judge_url, args.judge_model, timeout=args.timeout, tries=args.tries, pause=args.pause
        )
        results = {file: read_results(file) for file in files()}
        if args.dry_run:
            return dry_run(judge, results)
        metrics = {file.stem: judge_file(judge, file, results[file], args) for file in results}
    except (ValueError, FileNotFoundError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    columns = ("items", *(() if args.offline else ("score", "unparsed")), *SCORES)
    rows = {**metrics, **(means_of_subsets(metrics) if len(metrics) > 1 else {})}
    table = [[name, *(row.get(column) for column in columns)] for name, row in rows.items()]
    print_table("scores, percent", ("subset", *columns), table)
    return 0


def dry_run(judge: Judge, results: dict[Path, list[dict[str, Any]]]) -> int:
    """Print the first request and what judging would take."""
    rows = [
        [file.stem, len(records), *cost(judge, records, replies(file)).values()] for file, records in results.items()
    ]
    first = next(record for records in results.values() for record in records)
    print(json.dumps(judge.request(first), indent=2, ensure_ascii=False))
    total = ["all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))]
    header = ("subset", "items", "requests left", "tokens in, about", "tokens out, about")
    print_table(f"{judge.model} at {judge.url}; nothing was asked", header, [*rows, total])
    return 0


def replies(file: Path) -> Path:
    """Name the folder of the judge's replies about a result file."""
    return file.parent / "judged" / f"{file.stem}.replies"


def judge_file(judge: Judge, file: Path, records: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Score a file, in percent; with a judge, write records and replies, and name unparsed ones."""
    answers, truths = ([str(record[key]) for record in records] for key in ("answer", "gt"))
    metrics: dict[str, Any] = {"items": len(records), **mean_scores(answers, truths)}
    if args.offline:
        return metrics
    judged = judge_records(judge, records, replies(file), args.parallel)
    scored = list(progress(judged, total=len(records), desc=file.stem, unit="answer"))
    unparsed = [record for record in scored if record["score"] is None]
    for record in unparsed:
        name = record.get("question_id", record["question"])
        print(f"{file.stem}, question {name}: no score in the judge's reply {record['reply']!r}")
    having = [record["score"] for record in scored if record["score"] is not None]
    metrics |= {"score": 100 * sum(having) / len(having) if having else None, "unparsed": len(unparsed)}
    write_json(file.parent / "judged" / file.name, {"model": judge.model, "metrics": metrics, "records": scored})
    return metrics
