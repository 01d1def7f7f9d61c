"""The report of a run over cases: JSON, a page for people, a file to review by hand, and the comparison of two runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
REPORT, PAGE, REVIEW = "report.json", "report.html", "review.jsonl"
REVIEWED: dict[str, Any] = {
    "grounding_judgment": None,
    "answer_judgment": None,
    "roi_judgment": None,
    "primary_issue": None,
    "confirmed_auto_tags": [],
    "extra_manual_tags": [],
    "comment": "",
}
WANTED = ("answer_contains", "answer_not_contains", "expected_bbox", "notes")
FOUND = ("iou", "look", "error", "ground_error", "seconds")
STYLE = """body { font: 15px/1.5 sans-serif; max-width: 1100px; margin: 2em auto; color: #202020 }
table { border-collapse: collapse } td, th { padding: .2em 1em .2em 0; text-align: left; vertical-align: top }
section { border-top: 1px solid #ddd; padding: 1em 0 } img { max-width: 100% }
.tag { background: #f6d5c3; border-radius: 3px; padding: 0 .4em; margin-right: .3em } .good { color: #009e73 }"""


def make_report(records: Sequence[Record], run: Record, old: Record | None = None) -> dict[str, Any]:
    """Sums a run up.

    Args:
        records: Of `flmm.chat.cases.run_cases`.
        run: What was run: manifest, config, checkpoint.
        old: An earlier report to compare with.
    """
    counts = Counter(tag for record in records for tag in record["tags"])
    summary = {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **run,
        "num_samples": len(records),
        "num_success": sum(not record["tags"] for record in records),
        "num_failed": sum(bool(record["tags"]) for record in records),
        "tag_counts": dict(counts.most_common()),
    }
    report: dict[str, Any] = {"summary": summary, "samples": list(records)}
    if old is not None:
        report["comparison"] = compare(old["samples"], records)
    return report


def compare(old: Sequence[Record], new: Sequence[Record]) -> dict[str, list[Any]]:
    """What changed between two runs: ids of cases that got right or wrong, and other answers.

    Returns:
        `fixed` and `broken` ids, `tags` and `answers` as [id, before, after], `only_old` and `only_new` ids.
    """
    before, after = ({record["case"]["id"]: record for record in run} for run in (old, new))
    both = [name for name in after if name in before]
    return {
        "fixed": [name for name in both if before[name]["tags"] and not after[name]["tags"]],
        "broken": [name for name in both if after[name]["tags"] and not before[name]["tags"]],
        "tags": [
            [name, before[name]["tags"], after[name]["tags"]]
            for name in both
            if before[name]["tags"] and after[name]["tags"] and before[name]["tags"] != after[name]["tags"]
        ],
        "answers": [
            [name, before[name]["answer"], after[name]["answer"]]
            for name in both
            if before[name]["answer"] != after[name]["answer"]
        ],
        "only_old": [name for name in before if name not in after],
        "only_new": [name for name in after if name not in before],
    }


def read_report(path: str | Path) -> dict[str, Any]:
    """Reads an earlier report, from its file or folder; ValueError when it is none."""
    path = Path(path)
    file = path / REPORT if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no report {file}: `flmm cases` writes it")
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        [(record["case"]["id"], record["tags"], record["answer"]) for record in report["samples"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no report of `flmm cases` ({error!r})") from error
    return report


def write_report(report: Mapping[str, Any], out: Path) -> None:
    """Writes report.json, report.html and, unless somebody may have filled it in already, review.jsonl."""
    from flmm.checkpoint import part_name, publish

    texts = {REPORT: json.dumps(report, ensure_ascii=False, indent=1), PAGE: page(report)}
    if not (out / REVIEW).exists():
        texts[REVIEW] = "".join(json.dumps(review(record), ensure_ascii=False) + "\n" for record in report["samples"])
    for name, text in texts.items():
        part = part_name(out / name)
        part.write_text(text, encoding="utf-8")
        publish(part, out / name)


def review(record: Record) -> dict[str, Any]:
    """A line to fill in by hand."""
    case = record["case"]
    asked = {"id": case["id"], "image_path": case["image_path"], "question": case["question"]}
    said = {"answer": record["answer"], "look": record.get("look"), "auto_tags": record["tags"]}
    return {"schema": "review_v2", **asked, **said, "manual_review": REVIEWED}


def page(report: Mapping[str, Any]) -> str:
    """The report as a page that needs only the pictures beside it."""
    summary = report["summary"]
    facts = {key: value for key, value in summary.items() if key != "tag_counts"} | summary["tag_counts"]
    parts = [f"<h1>{summary['num_success']} of {summary['num_samples']} cases are right</h1>", _table(facts)]
    if "comparison" in report:
        changed = {key: value for key, value in report["comparison"].items() if value}
        parts += ["<h2>Compared with the earlier run</h2>", _table(changed) if changed else "<p>Nothing changed.</p>"]
    parts += [_section(record) for record in report["samples"]]
    head = f"<meta charset='utf-8'><title>Cases</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _table(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(str(key))}</th><td>{escape(_text(facts[key]))}</td></tr>" for key in facts)
    return f"<table>{rows}</table>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _section(record: Record) -> str:
    case = record["case"]
    tags = "".join(f"<span class='tag'>{escape(tag)}</span>" for tag in record["tags"])
    facts = {"question": case["question"], "answer": record["answer"]}
    facts |= {key: case[key] for key in WANTED if case[key]}
    facts |= {key: record[key] for key in FOUND if record.get(key) is not None}
    earlier = {f"before: {turn['role']}": turn["text"] for turn in case["history"]}
    picture = f"<img src='pictures/{escape(case['id'])}.png' alt=''>" if record["grounded"] else ""
    title = f"<h3>{escape(case['id'])} {tags or '<span class=good>right</span>'}</h3>"
    return f"<section>{title}{_table(earlier | facts)}{picture}</section>"
