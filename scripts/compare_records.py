"""Figures by groups of phrases with intervals; of two runs, their difference: compare_records.py FOLDER [OTHER]."""

import argparse
import sys

from flmm.evaluation.groups import METRICS, comparison, table
from flmm.evaluation.records import KINDS, Record, read_records
from flmm.evaluation.tables import print_table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("folder", help="records of an evaluation: OUTPUT/<split>.<protocol>")
    add("other", nargs="?", help="records of another run on the same pictures")
    add("--masks", choices=list(KINDS), default="refined", help="[%(default)s]")
    add("--metric", choices=METRICS, default="mIoU", help="mIoU (PNG's average recall) or cIoU [%(default)s]")
    args = parser.parse_args()
    try:
        records = read_records(args.folder)
        if args.other:
            show_differences(args, records, read_records(args.other))
        else:
            show(args, records)
    except (ValueError, FileNotFoundError) as error:
        print(f"compare_records.py: {error}", file=sys.stderr)
        return 1
    return 0


def show(args: argparse.Namespace, records: list[Record]) -> None:
    rows = [[g, n, count, i.value, i.low, i.high] for g, n, count, i in table(records, args.masks, args.metric)]
    title = f"{args.folder}, {args.masks} masks, {args.metric} with its 95 % interval (bootstrap of pictures)"
    print_table(title, ("group", "", "phrases", args.metric, "low", "high"), rows)


def show_differences(args: argparse.Namespace, records: list[Record], others: list[Record]) -> None:
    found = comparison(records, others, args.masks, args.metric)
    rows = [[g, n, count, d.value, d.low, d.high, f"{d.p:.4f}"] for g, n, count, d in found]
    title = (
        f"{args.other} minus {args.folder}, {args.masks} masks, {args.metric}: 95 % interval, p of a paired permutation"
    )
    print_table(title, ("group", "", "phrases", "difference", "low", "high", "p"), rows)


if __name__ == "__main__":
    sys.exit(main())
