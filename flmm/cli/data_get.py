"""Fetches what is missing of the data sets, and says what has to be fetched by hand."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flmm.datasets.check_benchmarks import GRANDF, REASON_SEG
from flmm.datasets.check_parts import CAPTIONS, COCO, REFS
from flmm.download import download, remote_size, unpack


class Source(NamedTuple):
    """A file to fetch.

    Attributes:
        name: What `--only` calls it.
        url: Where it is; what to do by hand when it is no address of a file.
        folder: Where it goes, or its members go, below the root.
        made: What is there, below the root, when it is done.
        sha256: Its checksum, where one is published.
    """

    name: str
    url: str
    folder: str
    made: tuple[str, ...]
    sha256: str | None = None

    @property
    def by_hand(self) -> bool:
        """Whether no address of a file is known."""
        return not self.url.startswith(("http://", "https://")) or " " in self.url or "#" in self.url


def _refs(name: str, splits: str) -> Source:
    url = REFS.format(name).partition(" ")[0]
    return Source(f"{name}.zip", url, "coco", (f"coco/{name}/instances.json", f"coco/{name}/{splits}"))


_COT = "https://raw.githubusercontent.com/wusize/F-LMM/main/scripts/visual_cot/benchmark"
_SUBSETS = (
    "cub",
    "docvqa",
    "dude",
    "flickr30k",
    "gqa",
    "infographicsvqa",
    "openimages",
    "sroie",
    "textcap",
    "textvqa",
    "vsr",
)
_PANOPTIC = [f"coco/annotations/panoptic_{split}2017" for split in ("train", "val")]
SETS: dict[str, list[Source]] = {
    "coco": [
        *(
            Source(f"{n}.zip", f"{COCO}/zips/{n}.zip", "coco", (f"coco/{n}",))
            for n in ("val2017", "train2017", "train2014")
        ),
        Source(
            "panoptic_annotations_trainval2017.zip",
            f"{COCO}/annotations/panoptic_annotations_trainval2017.zip",
            "coco",
            (*(f"{path}.json" for path in _PANOPTIC), *_PANOPTIC),
        ),
    ],
    "png": [
        Source(
            "captions",
            CAPTIONS,
            "coco/annotations",
            tuple(f"coco/annotations/png_coco_{s}2017.json" for s in ("train", "val")),
        )
    ],
    "refcoco": [_refs("refcoco", "refs(unc).p"), _refs("refcoco+", "refs(unc).p"), _refs("refcocog", "refs(umd).p")],
    "reasonseg": [Source("ReasonSeg", REASON_SEG, "ReasonSeg", ("ReasonSeg/val", "ReasonSeg/test"))],
    "grandf": [Source("GranDf", GRANDF, "GranDf", ("GranDf/annotations/val_test",))],
    "cot": [
        *(Source(f"{n}.json", f"{_COT}/{n}.json", "cot/benchmark", (f"cot/benchmark/{n}.json",)) for n in _SUBSETS),
        Source("pictures", "https://huggingface.co/datasets/deepcs233/Visual-CoT (cot_images)", "cot", ("cot/cub",)),
    ],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm data get`."""
    add = parser.add_argument
    names = ", ".join(source.name for sources in SETS.values() for source in sources)
    add("sets", nargs="+", choices=list(SETS), help="data sets")
    add("--root", type=Path, default=Path("data"), help="folder of all data sets [%(default)s]")
    add("--only", nargs="+", default=[], metavar="NAME", help=f"only these of them: {names}")
    add("--dry-run", action="store_true", help="say what would be fetched, and its size; fetch nothing")
    add("--keep", action="store_true", help="keep archives that are unpacked")


def run(args: argparse.Namespace) -> int:
    """Fetches; returns 1 when something is left to be fetched by hand or could not be fetched.

    Raises:
        ValueError: A name that no set has.
    """
    sources = [source for name in args.sets for source in SETS[name]]
    if unknown := set(args.only) - {source.name for source in sources}:
        raise ValueError(f"--only {', '.join(sorted(unknown))}: {', '.join(args.sets)} has no such file; see --help")
    wanted = [source for source in sources if not args.only or source.name in args.only]
    failed = get(wanted, args.root, args.dry_run, args.keep)
    if not args.dry_run:
        print(f"next: flmm data check {args.root}")
    return failed


def get(sources: Iterable[Source], root: Path, dry_run: bool = False, keep: bool = False) -> int:
    """Fetches sources into a root; see `run`."""
    missing = [source for source in sources if not is_there(source, root)]
    _announce(missing, root)
    failed = any(source.by_hand for source in missing)
    for source in () if dry_run else missing:
        if source.by_hand:
            continue
        try:
            fetch(source, root, keep)
        except (OSError, ValueError) as error:
            failed = True
            print(f"failed: {error}")
    return int(failed)


def is_there(source: Source, root: Path) -> bool:
    """Whether all that a source makes is there, and no archive that was being unpacked is left."""
    archive = _file(source, root)
    unfinished = archive.suffix == ".zip" and archive.exists()
    return not unfinished and all((root / made).exists() for made in source.made)


def _file(source: Source, root: Path) -> Path:
    return root / source.folder / source.name


def _announce(missing: list[Source], root: Path) -> None:
    """Says what will be fetched, its size and where it goes."""
    if not missing:
        print("nothing is missing")
    for source in missing:
        size = "by hand" if source.by_hand else _megabytes(source.url)
        print(f"{source.name} ({size}): {source.url} -> {root / source.folder}")


def _megabytes(url: str) -> str:
    size = remote_size(url)
    return "?" if size is None else f"{size / 1e6:,.1f} MB"


def fetch(source: Source, root: Path, keep: bool = False) -> None:
    """Fetches one source; unpacks it, and the archives inside it, when it is a zip file."""
    file = _file(source, root)
    if not file.exists():
        download(source.url, file, source.sha256)
    if file.suffix != ".zip":
        return
    for member in unpack(file, file.parent):
        if member.suffix == ".zip":  # the panoptic PNGs
            unpack(member, member.parent)
            member.unlink()
    if keep:
        file.rename(file.with_name(f"{file.stem}.kept.zip"))
    else:
        file.unlink()
