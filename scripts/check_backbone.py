"""Draws where a backbone's grid of image tokens falls on a test picture, and fails when it is wrong.

Usage: python scripts/check_backbone.py CONFIG [--out FOLDER] [--size WIDTH HEIGHT]
"""

import argparse
import sys
from pathlib import Path

import torch

from flmm.config import read_config, sample_settings
from flmm.datasets.sample import SampleBuilder
from flmm.models.grid_check import check_grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, help="folder for the drawings (work_dirs/check_backbone/<config>)")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 416), help="width and height of the picture")
    args = parser.parse_args()
    out = args.out or Path("work_dirs/check_backbone", Path(args.config).stem)
    out.mkdir(parents=True, exist_ok=True)
    config = read_config(args.config)
    backbone = build_backbone(config).to("cuda" if torch.cuda.is_available() else "cpu")
    places = list(check_grid(backbone, SampleBuilder(**sample_settings(config)), tuple(args.size)))
    for number, place in enumerate(places):
        place.draw().save(out / f"{number}.png")
        verdict = "ok" if place.agrees else "WRONG"
        rows, columns = place.change.shape
        view = f"view {place.view + 1} of {rows} x {columns}"
        print(f"{verdict:5} square {place.box}, {view}, score {place.score:.2f}: {out}/{number}.png")
    if not all(place.agrees for place in places):
        sys.exit("the square did not light up at its own place: the grid, the image tokens and the picture disagree")


def build_backbone(config):
    """The backbone of a config, without its SAM and trained head."""
    from xtuner.registry import BUILDER

    return BUILDER.build(dict(config.model, sam=None, pretrained=None)).backbone


if __name__ == "__main__":
    main()
