"""Make the shapes data set: `python scripts/tiny/make_shapes.py --out data/shapes`."""

import argparse

from flmm.datasets.shapes import make_shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="data/shapes")
    parser.add_argument("--train", type=int, default=2000, help="training images")
    parser.add_argument("--val", type=int, default=100, help="validation images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=None, help="processes; default: one per core")
    args = parser.parse_args()
    print(f"shapes data set in {make_shapes(**vars(args))}")


if __name__ == "__main__":
    main()
