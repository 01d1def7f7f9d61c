"""Finds phrases of a sentence in a picture; draws them and prints their scores and boxes."""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    parser.add_argument("--config", help="config of the model [that of the checkpoint, else the tiny model]")
    parser.add_argument("--checkpoint", help="trained head [that of the tiny model]")
    parser.add_argument("--out", default="grounding.png", help="picture to write [%(default)s]")
    parser.add_argument("--npz", help="file for masks, boxes, scores and attention as arrays")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 [cuda if there is one]")


def run(args: argparse.Namespace) -> int:
    """Grounds, draws, prints.

    Raises:
        FileNotFoundError: When the picture, config or checkpoint does not exist.
        ValueError: When one of them cannot be read, a phrase is not in the text, or a result cannot be written.
    """
    from flmm.api import load, usable_device
    from flmm.datasets.images import as_picture
    from flmm.datasets.phrases import find_phrases
    from flmm.evaluation.drawings import save_picture
    from flmm.evaluation.tables import print_table

    device = usable_device(args.device)
    picture = as_picture(args.image)  # errors in what was typed come before the model is loaded
    phrases = args.phrase or [args.text]
    find_phrases(args.text, phrases)
    out, npz = writable(args.out), args.npz and in_folder(args.npz)
    grounding = load(args.config, args.checkpoint, device).ground(picture, args.text, phrases)
    if npz:  # what took long comes first: a drawing may fail
        save_arrays(grounding, npz)
    print_table(f"{args.image} -> {out}", ("phrase", "score", "pixels", "box x0 y0 x1 y1"), rows(grounding))
    save_picture(grounding.draw(), out)
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
        ValueError: When its ending is no format that PIL writes, or its folder cannot be written.
    """
    from PIL import Image

    path = Path(path)
    try:  # of some formats PIL only knows the name, others take no colours
        Image.new("RGB", (1, 1)).save(io.BytesIO(), Image.registered_extensions()[path.suffix.lower()])
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"cannot write a picture to {path}: end it in .png or .jpg") from error
    return in_folder(path)


def in_folder(path: str | Path) -> Path:
    """A path for a file, its folder made.

    Raises:
        ValueError: When that folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {path}: no folder {path.parent} ({error}); choose another one") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: it is a folder, or {path.parent} is read-only; choose another name")
    return path


def save_arrays(grounding: Grounding, path: str | Path) -> None:
    """Writes the arrays of a grounding into an .npz file."""
    import numpy as np

    names = ("phrases", "masks", "coarse_masks", "boxes", "scores", "attention", "attention_maps")
    arrays: dict[str, Any] = {name: np.asarray(getattr(grounding, name)) for name in names}
    np.savez_compressed(path, **arrays)
