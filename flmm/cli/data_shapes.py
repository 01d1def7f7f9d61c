"""Makes the shapes data set: colored shapes on two-part backgrounds, in the files of COCO, PNG, RefCOCO and others."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm data shapes`."""
    parser.add_argument("--out", default="data/shapes", help="folder to make [%(default)s]")
    parser.add_argument("--train", type=int, default=2000, help="training pictures [%(default)s]")
    parser.add_argument("--val", type=int, default=100, help="validation pictures [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other pictures [%(default)s]")


def run(args: argparse.Namespace) -> int:
    """Makes the data set, or keeps it when it is there."""
    from flmm.datasets.shapes import make_shapes

    root = make_shapes(args.out, train=args.train, val=args.val, seed=args.seed)
    print(f"shapes data set in {root}")
    return 0
