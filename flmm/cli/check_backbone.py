"""Check where a backbone's image tokens lie in pictures of four shapes, and that answers read what grounding reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from flmm.constants import CHECKED_SIZES as SIZES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    sizes = ", ".join(f"{width} {height}" for width, height in SIZES)
    parser.add_argument("config", help="config of a model, such as those in configs/")
    parser.add_argument("--out", type=Path, help="folder for the drawings [work_dirs/check_backbone/CONFIG]")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        action="append",
        metavar=("WIDTH", "HEIGHT"),
        help=f"of a picture, in pixels; repeat for more [{sizes}]",
    )


def run(args: argparse.Namespace) -> int:
    """Check a config; 1 when a square does not light up at its own place, or answers read something else."""
    import torch
    from xtuner.registry import BUILDER

    from flmm.config import read_config, sample_settings
    from flmm.datasets.sample import SampleBuilder
    from flmm.models.grid_check import prefill_difference
    from flmm.training.named_files import check_files

    config = read_config(args.config)
    out = args.out or Path("work_dirs/check_backbone", Path(args.config).stem)
    out.mkdir(parents=True, exist_ok=True)
    settings = dict(config.model, sam=None, pretrained=None)  # without SAM and trained head
    check_files(settings)
    model = BUILDER.build(settings)
    backbone = model.backbone.to("cuda" if torch.cuda.is_available() else "cpu")
    builder = SampleBuilder(**sample_settings(config))
    right = [_check_size(backbone, builder, tuple(size), out) for size in args.size or SIZES]
    difference = prefill_difference(backbone, builder)
    if difference > 1e-3:
        print(f"WRONG answers read other embeddings than grounding: {difference:.1e} of their size")
    if not all(right):
        print(
            "the square did not light up at its own place: the grid, the image tokens and the picture disagree. Does "
            "the processor crop or pad? Set call=dict(do_center_crop=False, ...), or square=True and padded=True "
            "(docs/add_a_backbone.md)"
        )
    return 0 if all(right) and difference <= 1e-3 else 1


def _check_size(backbone, builder, size: tuple[int, int], out: Path) -> bool:
    """Print a line and save a drawing for each place and view of a picture; whether all agree."""
    from flmm.models.grid_check import check_grid

    places = list(check_grid(backbone, builder, size))
    for number, place in enumerate(places):
        path = out / f"{size[0]}x{size[1]}_{number}.png"
        place.draw().save(path)
        verdict = "ok" if place.agrees else "WRONG"
        rows, columns = place.change.shape
        view = f"view {place.view + 1} of {rows} x {columns}"
        print(f"{verdict:5} {size[0]}x{size[1]} square {place.box}, {view}, score {place.score:.2f}: {path}")
    return all(place.agrees for place in places)
