"""Turns annotations of other formats into one JSON Lines file of your data (docs/own_data.md)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flmm.datasets.own.convert import coco, folders, label_studio, tools
from flmm.datasets.own.convert.lines import Line, Notes, write_lines
from flmm.outputs import in_folder

Convert = Callable[[argparse.Namespace, Notes], Iterator[Line]]


class Format(NamedTuple):
    """A format that can be read.

    Attributes:
        source: What SOURCE is.
        needs: Options that it must have.
        convert: Makes the lines.
    """

    source: str
    needs: tuple[str, ...]
    convert: Convert


FORMATS = {
    "coco": Format(
        "instances_*.json; with --captions captions_*.json each caption is a text, else the categories are",
        ("images",),
        lambda a, notes: coco.instances(a.source, a.images, notes, a.captions),
    ),
    "panoptic": Format(
        "png_coco_*.json of Panoptic Narrative Grounding, with --panoptic panoptic_*.json and --masks its PNGs",
        ("images", "panoptic", "masks"),
        lambda a, notes: coco.panoptic(a.source, a.panoptic, a.masks, a.images),
    ),
    "refcoco": Format(
        "instances.json of a RefCOCO set, with --refs refs(...).p (or gRefCOCO's grefs(...).json) and --split",
        ("images", "refs"),
        lambda a, notes: coco.refcoco(a.source, a.refs, a.images, notes, a.split),
    ),
    "labelme": Format(
        "JSON file of LabelMe, or a folder of them; labels are phrases",
        (),
        lambda a, notes: tools.labelme(a.source, notes, a.images),
    ),
    "label-studio": Format(
        "JSON export of Label Studio (polygons, rectangles, ellipses, brushes); labels are phrases",
        ("images",),
        lambda a, notes: label_studio.label_studio(a.source, a.images, notes),
    ),
    "cvat": Format(
        "annotations.xml of 'CVAT for images 1.1'; labels are phrases",
        ("images",),
        lambda a, notes: tools.cvat(a.source, a.images, notes),
    ),
    "flickr30k": Format(
        "folder Sentences of Flickr30k Entities, with --boxes its folder Annotations",
        ("images", "boxes"),
        lambda a, notes: folders.flickr30k(a.source, a.boxes, a.images, notes),
    ),
    "folder": Format(
        "folder of NAME.jpg and their texts NAME.txt, with --masks a folder of NAME/WORDS.png or NAME__WORDS.png",
        ("masks",),
        lambda a, notes: folders.folder(a.source, a.masks, notes),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flmm data convert`."""
    add = parser.add_argument
    formats = "; ".join(f"{name}: {form.source}" for name, form in FORMATS.items())
    add("format", choices=list(FORMATS), help="what SOURCE is")
    add("source", type=Path, help=formats)
    add("--out", type=Path, required=True, help="JSON Lines file to write")
    add("--overwrite", action="store_true", help="replace the file of --out when it exists")
    add("--root", type=Path, help="folder that its paths start from [that of --out]")
    add("--images", type=Path, help="folder of the pictures")
    add("--captions", type=Path, help="coco: captions_*.json")
    add("--panoptic", type=Path, help="panoptic: panoptic_*.json")
    add("--masks", type=Path, help="panoptic, folder: folder of PNGs")
    add("--refs", type=Path, help="refcoco: refs(...).p or grefs(...).json")
    add("--split", default="train", help="refcoco: train, val, test ... or all [%(default)s]")
    add("--boxes", type=Path, help="flickr30k: folder Annotations")


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was left out.

    Raises:
        FileExistsError: The file to write exists.
        FileNotFoundError: A file is missing.
        ValueError: An option is missing, or a file cannot be used.
    """
    chosen = FORMATS[args.format]
    if missing := [f"--{name}" for name in chosen.needs if getattr(args, name) is None]:
        raise ValueError(f"{args.format} needs {', '.join(missing)}: SOURCE is {chosen.source}")
    in_folder(args.out, *filter(None, [args.source, args.captions, args.panoptic, args.refs]))
    if args.out.exists() and not args.overwrite:
        raise FileExistsError(f"{args.out} exists, and may hold your edits: name another file, or add --overwrite")
    notes, root = Notes(), args.root or args.out.parent
    count = write_lines(_named(chosen.convert(args, notes), args.source), args.out, root, notes)
    print(f"{args.out}: {count} lines")
    for reason, number in notes.counts.most_common():
        if number:
            print(f"- left out: {number} {reason}")
    option = f" --root {args.root}" if args.root else ""
    print(f"next: flmm data check {args.out}{option}")
    return 0


def _named(lines: Iterator[Line], source: Path) -> Iterator[Any]:
    """Turn entries that are missing or of another type into an error that names the source."""
    try:
        yield from lines
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{source} has another format than it should ({what}): is it the one that --help says?"
        ) from error
    except ValueError as error:  # a number that is none, deep in the file
        raise ValueError(str(error) if str(source) in str(error) else f"{source}: {error}") from error
