"""Samples per second with the size of the batch: LMM, SAM and head together, dynamic batching, texts of one picture.

    python scripts/benchmark/batch.py --shape tiny --sam vit_nano --sizes 1 2 4 8

Texts of a batch have different lengths. `max_tokens` bounds a pass of the LMM, padding included, so that one long
text does not fill a batch of short ones with padding. Texts about one picture, as in the per-sentence evaluation of
referring expressions, share picture and prompt in one sequence, and SAM's embedding.
"""

from __future__ import annotations

import argparse
import functools

import torch
from measure import Ratio, Report, compare, options
from synthetic import add_options, make_model, make_sample, retold

from flmm.models.frozen_lmm import Sample


def main() -> None:
    args = arguments().parse_args()
    measured(args).show(args.json)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = options(__doc__)
    add_options(parser, shape="tiny", sam="vit_nano")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument(
        "--longest", type=int, default=400, help="tokens that the longest text has more than the shortest"
    )
    return parser


def measured(args: argparse.Namespace) -> Report:
    """Batches of several sizes."""
    torch.set_num_threads(args.threads)
    model = make_model(args).eval()
    count = max(args.sizes)
    pictures = [make_sample(args, seed=i, more=args.longest * i // count) for i in range(count)]
    texts = [retold(pictures[0], seed=i) for i in range(count)]
    length = len(pictures[-1]["mask_ids"])

    def predict(samples: list[Sample], size: int, max_tokens: int) -> None:
        model.read.max_tokens = max_tokens
        for start in range(0, count, size):
            model(samples[start : start + size], mode="predict")

    ways = {f"batch of {n}": functools.partial(predict, pictures, n, n * length) for n in args.sizes}
    ways[f"batch of {count}, max_tokens {2 * length:,}"] = functools.partial(predict, pictures, count, 2 * length)
    alone, together = (f"{count} texts about one picture, {how}" for how in ("one by one", "together"))
    ways |= {alone: functools.partial(predict, texts, 1, length)}
    ways |= {together: functools.partial(predict, texts, count, length)}
    costs = compare(ways, args)
    report = Report(
        f"Prediction: {args.shape}, S={len(pictures[0]['mask_ids']):,} to {length:,}, {args.sam}, {args.device}",
        ("way", "samples / second", "x one by one", "peak MB"),
    )
    for name, cost in costs.items():
        base = costs[alone if "texts" in name else next(iter(costs))]
        report.rows.append((name, count / cost.seconds, base.seconds / cost.seconds, cost.megabytes))
    gain = costs[alone].seconds / costs[together].seconds
    # a further text costs at most a third of the first one, if LMM and SAM outweigh the head
    least = count / (1 + (count - 1) / 3)
    report.ratios.append(Ratio(f"samples per second: {count} texts together / one by one", gain, least, at_most=False))
    if args.device.startswith("cuda"):  # a CPU is busy with one picture, and larger batches leave its caches
        first, *_ = seconds = [costs[f"batch of {n}"].seconds for n in args.sizes]
        best = first / min(seconds)
        report.ratios.append(Ratio("pictures per second: best batch / one by one", best, 1.2, at_most=False))
    return report


if __name__ == "__main__":
    main()
