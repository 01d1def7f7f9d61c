"""Asks questions whose answers are known, and reports what fails, as JSON and as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from flmm.cli.model_options import add_model_options, load_model
from flmm.console import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm cases`."""
    parser.add_argument(
        "manifest", help='JSON: {"samples": [{"id", "image_path", "question", "answer_contains", ...}]}'
    )
    parser.add_argument("--out", help="folder of the report [work_dirs/cases/MANIFEST]; a rerun goes on there")
    parser.add_argument("--compare", metavar="REPORT", help="an earlier report, or its folder, to compare with")
    parser.add_argument("--limit", type=int, help="ask the first cases only")
    parser.add_argument("--max-new-tokens", type=int, default=200, help="longest answer [%(default)s]")
    parser.add_argument("--iou", type=float, default=0.3, help="boxes that overlap less are labeled [%(default)s]")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Asks, reports; returns 0 also when cases fail: the report says which.

    Raises:
        FileNotFoundError: When manifest, report, config or checkpoint does not exist.
        ValueError: When one of them cannot be read.
    """
    from flmm.chat.case_report import PAGE, REPORT, make_report, read_report, write_report
    from flmm.chat.cases import picture_file, read_cases, run_cases
    from flmm.config import sample_settings
    from flmm.evaluation.identity import model_identity
    from flmm.evaluation.tables import print_table
    from flmm.outputs import apart

    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit {args.limit}: ask at least 1 case")
    cases = read_cases(args.manifest)[: args.limit]
    old = None if args.compare is None else read_report(args.compare)
    out = Path(args.out or Path("work_dirs/cases", Path(args.manifest).stem))
    root = Path(args.manifest).parent
    read = [args.manifest, *(root / case.image_path for case in cases)]
    apart([out / REPORT, *(picture_file(out, case) for case in cases)], read)
    model = load_model(args)
    config, head = model.config, model.checkpoint
    identity = model_identity(config.to_dict()["model"], sample_settings(config), head)
    setup = {"config": args.config, "checkpoint": None if head is None else str(head), **identity}
    work = run_cases(model, cases, root, out, setup, args.max_new_tokens, args.iou)
    records = list(progress(work, total=len(cases), desc="cases"))
    report = make_report(records, {"manifest": args.manifest, **setup}, old)
    write_report(report, out)
    summary = report["summary"]
    title = f"{summary['num_success']} of {summary['num_samples']} cases are right: {out / PAGE}"
    print_table(title, ("label", "cases"), summary["tag_counts"].items())
    if old is not None:
        changes = [(key, len(names)) for key, names in report["comparison"].items()]
        print_table(f"compared with {args.compare}", ("change", "cases"), changes)
    return 0
