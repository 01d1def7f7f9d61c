"""Finds phrases of a sentence in a picture, or in a folder of pictures; draws them, prints their scores and boxes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flmm.cli.model_options import add_model_options, load_model
from flmm.constants import UNLIKELY

if TYPE_CHECKING:
    from flmm.api import Grounding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm ground`."""
    parser.add_argument("image", help="picture file, EXIF orientation is obeyed; or a folder of pictures")
    parser.add_argument("text", nargs="?", help="a sentence about the picture, or about each picture of a folder")
    parser.add_argument(
        "--text-file", metavar="FILE", help="for a folder: lines PICTURE, tab, TEXT, and a tab and words per phrase"
    )
    parser.add_argument(
        "--phrase",
        action="append",
        metavar="WORDS",
        help="words of the sentence; repeat for more. Without it the whole sentence is one phrase",
    )
    add_model_options(parser)
    parser.add_argument(
        "--out", help="picture to write [grounding.png]; for a folder: where all results go [grounding]"
    )
    parser.add_argument("--masks", metavar="FOLDER", help="write each mask there as a PNG, 255 inside")
    parser.add_argument("--coco", metavar="FILE.json", help="write masks and boxes in COCO's format")
    parser.add_argument(
        "--threshold", type=probability, default=0.5, help="probability that cuts the masks [%(default)s]"
    )
    parser.add_argument("--npz", help="file for masks, boxes, scores and attention as arrays")


def run(args: argparse.Namespace) -> int:
    """Grounds, draws, prints.

    Raises:
        FileNotFoundError: When the picture, config or checkpoint does not exist.
        ValueError: When one of them cannot be read, a phrase is not in the text, or a result cannot be written.
    """
    if os.path.isdir(args.image):
        from flmm.cli.ground_folder import ground_folder

        return ground_folder(args)
    if args.text is None or args.text_file:
        raise ValueError(f"{args.image} is no folder: give one TEXT for a picture; --text-file is for folders")
    from flmm.api import usable_device
    from flmm.datasets.images import as_picture
    from flmm.datasets.phrases import find_phrases
    from flmm.evaluation.drawings import save_picture
    from flmm.evaluation.records import write_json
    from flmm.evaluation.tables import print_table
    from flmm.export import as_coco, as_entry, save_masks
    from flmm.outputs import apart, in_folder, writable

    usable_device(args.device)
    picture = as_picture(args.image)  # errors in what was typed come before the model is loaded
    phrases = args.phrase or [args.text]
    find_phrases(args.text, phrases)
    out = writable(args.out or "grounding.png")
    npz, coco = (file and in_folder(file) for file in (args.npz, args.coco))
    apart([out, *filter(None, [npz, coco])], [args.image])
    grounding = load_model(args).ground(picture, args.text, phrases).at(args.threshold)
    if npz:  # what took long comes first: a drawing may fail
        save_arrays(grounding, npz)
    entry = as_entry(grounding, args.image)
    if args.masks:
        save_masks(entry, args.masks, Path(args.image).stem)
    if coco:
        write_json(coco, as_coco([entry]))
    print_table(f"{args.image} -> {out}", ("phrase", "score", "pixels", "box x0 y0 x1 y1"), rows(grounding))
    save_picture(grounding.draw(), out)
    return 0


def probability(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    if not 0 < (number := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability between 0 and 1")
    return number


def rows(grounding: Grounding) -> list[list[object]]:
    """One row of the printed table per phrase."""
    return [
        [phrase + doubt(present), float(score), int(mask.sum()), " ".join(f"{side:.0f}" for side in box)]
        for phrase, present, score, mask, box in zip(
            grounding.phrases, grounding.presence, grounding.scores, grounding.masks, grounding.boxes, strict=True
        )
    ]


def doubt(presence: float) -> str:
    """What is written behind a phrase that the LMM would hardly say of the picture; nothing behind others."""
    return " (perhaps not in the picture)" if presence < UNLIKELY else ""


def save_arrays(grounding: Grounding, path: str | Path) -> None:
    """Writes the arrays of a grounding into an .npz file."""
    import numpy as np

    names = ("phrases", "masks", "coarse_masks", "boxes", "scores", "attention", "attention_maps")
    arrays: dict[str, Any] = {name: np.asarray(getattr(grounding, name)) for name in names}
    np.savez_compressed(path, **arrays)
