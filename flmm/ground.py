"""Finds phrases of a sentence in a picture; draws them and prints their scores and boxes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flmm.assembly import TINY_CONFIG

if TYPE_CHECKING:
    from flmm.api import Grounding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm ground`."""
    parser.add_argument("image", help="picture file; EXIF orientation is obeyed")
    parser.add_argument("text", help="a sentence about the picture")
    parser.add_argument(
        "--phrase",
        action="append",
        metavar="WORDS",
        help="words of the sentence; repeat for more. Without it the whole sentence is one phrase",
    )
    parser.add_argument("--config", default=TINY_CONFIG, help="config of the model [%(default)s]")
    parser.add_argument("--checkpoint", help="trained head [that of the tiny model]")
    parser.add_argument("--out", default="grounding.png", help="picture to write [%(default)s]")
    parser.add_argument("--npz", help="file for masks, boxes, scores and attention as arrays")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 [cuda if there is one]")


def run(args: argparse.Namespace) -> int:
    """Grounds, draws, prints.

    Raises:
        FileNotFoundError: When the picture, config or checkpoint does not exist.
        ValueError: When one of them cannot be read, or a phrase is not in the text.
    """
    from flmm.api import as_picture, load
    from flmm.datasets.phrases import find_phrases
    from flmm.tables import print_table

    picture = as_picture(args.image)  # errors in what was typed come before the model is loaded
    phrases = args.phrase or [args.text]
    find_phrases(args.text, phrases)
    grounding = load(args.config, args.checkpoint, args.device).ground(picture, args.text, phrases)
    out = writable(args.out)
    grounding.draw().save(out)
    print_table(f"{args.image} -> {out}", ("phrase", "score", "pixels", "box x0 y0 x1 y1"), rows(grounding))
    if args.npz:
        save_arrays(grounding, args.npz)
    return 0


def rows(grounding: Grounding) -> list[list[object]]:
    """One row of the printed table per phrase."""
    return [
        [phrase, float(score), int(mask.sum()), " ".join(f"{side:.0f}" for side in box)]
        for phrase, score, mask, box in zip(
            grounding.phrases, grounding.scores, grounding.masks, grounding.boxes, strict=True
        )
    ]


def writable(path: str | Path) -> Path:
    """A path for a picture, its folder made.

    Raises:
        ValueError: When its ending is no format that PIL writes.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"cannot write a picture to {path}: end it in .png or .jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def save_arrays(grounding: Grounding, path: str | Path) -> None:
    """Writes the arrays of a grounding into an .npz file."""
    import numpy as np

    names = ("phrases", "masks", "coarse_masks", "boxes", "scores", "attention", "attention_maps")
    arrays: dict[str, Any] = {name: np.asarray(getattr(grounding, name)) for name in names}
    np.savez_compressed(path, **arrays)
