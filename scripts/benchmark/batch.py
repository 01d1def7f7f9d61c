"""Pictures per second with the size of the batch: LMM, SAM and head together, and dynamic batching.

    python scripts/benchmark/batch.py --shape tiny --sam vit_nano --sizes 1 2 4 8

Every batch holds texts of different lengths. `max_tokens` bounds a pass of the LMM, padding included, so that one long
text does not fill a batch of short ones with padding.
"""

from __future__ import annotations

import functools

import torch
from measure import Ratio, Report, compare, options
from synthetic import add_options, make_model, make_sample


def main() -> None:
    parser = options(__doc__)
    add_options(parser, shape="tiny", sam="vit_nano")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument(
        "--longest", type=int, default=400, help="tokens that the longest text has more than the shortest"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = make_model(args).eval()
    count = max(args.sizes)
    samples = [make_sample(args, seed=i, more=args.longest * i // count) for i in range(count)]
    length = len(samples[-1]["mask_ids"])

    def predict(size: int, max_tokens: int) -> None:
        model.read.max_tokens = max_tokens
        for start in range(0, count, size):
            model(samples[start : start + size], mode="predict")

    together = {f"batch of {size}": functools.partial(predict, size, size * length) for size in args.sizes}
    dynamic = {f"batch of {count}, max_tokens {n:,}": functools.partial(predict, count, n) for n in (2 * length,)}
    costs = compare({**together, **dynamic}, args)
    first = next(iter(costs.values()))
    report = Report(
        f"Prediction: {args.shape}, S={len(samples[0]['mask_ids']):,} to {length:,}, {args.sam}, {args.device}",
        ("way", "pictures / second", "x one by one", "peak MB"),
    )
    for name, cost in costs.items():
        report.rows.append((name, count / cost.seconds, first.seconds / cost.seconds, cost.megabytes))
    if args.device.startswith("cuda"):  # a CPU is busy with one picture, and larger batches leave its caches
        best = max(first.seconds / cost.seconds for cost in costs.values())
        report.ratios.append(Ratio("pictures per second: best batch / one by one", best, 1.2, at_most=False))
    report.show(args.json)


if __name__ == "__main__":
    main()
