"""The parts of a data directory and what is checked of each."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flmm.console import Finding
from flmm.constants import REFCOCO
from flmm.datasets.annotations import CocoImage, no_collection
from flmm.datasets.captions import Panoptic, problem_of, read_segments, segment_map
from flmm.datasets.images import as_annotated, read_image
from flmm.datasets.refcoco import Instance, Ref, read_instances, read_refs, ref_problem
from flmm.masks import has_pixels

COCO = "http://images.cocodataset.org"
PANOPTIC = f"{COCO}/annotations/panoptic_annotations_trainval2017.zip (the PNG folders are zip files inside it)"
CAPTIONS = "https://bcv-uniandes.github.io/panoptic-narrative-grounding/#downloads"
REFS = "https://bvisionweb1.cs.unc.edu/licheng/referit/data/{}.zip (or its copy at web.archive.org)"


class Report:
    """Findings of a check, in order.

    Args:
        sample: Number of items of each part whose files are opened; 0 or less opens all.

    Attributes:
        source: Where all of the data comes from; replaces the sources of the parts while it is set.
    """

    def __init__(self, sample: int = 50) -> None:
        self.sample = sample
        self.source = ""
        self.findings: list[Finding] = []

    @property
    def is_broken(self) -> bool:
        """Tell whether something needed is missing or unsound."""
        return any(finding.state == "broken" for finding in self.findings)

    def ok(self, what: str | Path, text: str) -> None:
        """Something is as it should be."""
        self.findings.append(Finding("ok", str(what), text))

    def note(self, what: str | Path, text: str) -> None:
        """Something may be worth knowing."""
        self.findings.append(Finding("note", str(what), text))

    def broken(self, what: str | Path, text: str, cure: str = "", file: str = "") -> None:
        """Something needed is missing or unsound; the cure brings the file."""
        named = "" if self.source else file
        self.findings.append(Finding("broken", str(what), text, self.source or cure, named))

    def problems(self, what: str | Path, problems: Sequence[str], of: str, cure: str = "") -> None:
        """Broken with the number of problems and the first, or ok."""
        if problems:
            self.broken(what, f"{len(problems)} of {of}: {problems[0]}", cure)
        else:
            self.ok(what, of)

    def chosen(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return the items whose files are opened; always the same ones."""
        if self.sample <= 0 or self.sample >= len(items):
            return items
        return random.Random(0).sample(items, self.sample)


def check_png(root: Path, report: Report, split: str) -> None:
    """Captions, panoptic annotation, its PNGs and the images of one split agree."""
    annotations = root / "annotations"
    captions_file, panoptic_file = (annotations / f"{name}_{split}2017.json" for name in ("png_coco", "panoptic"))
    folder, pictures = annotations / f"panoptic_{split}2017", root / f"{split}2017"
    zips = f"{COCO}/zips/{split}2017.zip"
    captions = _read(captions_file, CAPTIONS, lambda path: list(read_segments(path)), report)
    images = _read(panoptic_file, PANOPTIC, lambda path: dict(Panoptic(path)), report)
    if captions is None or images is None:
        _folders({folder: PANOPTIC, pictures: zips}, report)
        return
    problems = [p for i, segments in captions if (p := problem_of(images.get(i), i, segments))]
    report.problems(captions_file, problems, f"{len(captions)} captions", CAPTIONS)
    bare = sum(not any(segment.ids for segment in segments) for _, segments in captions)
    if bare:
        report.note(captions_file, f"{bare} captions have no grounded phrase and are left out")
    known = {i: images[i] for i, _ in captions if i in images}
    _folder(folder, {image.segm_file for image in images.values()}, PANOPTIC, report)
    _folder(pictures, {image.file_name for image in known.values()}, zips, report)
    chosen = report.chosen([(known[i], segments) for i, segments in captions if i in known])
    found = [p for image, segments in chosen if (p := _png_problem(image, segments, folder, pictures))]
    report.problems(pictures, found, f"{len(chosen)} captions opened with image and PNG", PANOPTIC)


def check_refs(root: Path, report: Report, name: str, refs_file: str) -> None:
    """Expressions, instances and the images of one RefCOCO agree."""
    source, zips, pictures = REFS.format(name), f"{COCO}/zips/train2014.zip", root / "train2014"
    known = _read(root / name / "instances.json", source, read_instances, report)
    refs = _read(root / name / refs_file, source, read_refs, report)
    if known is None or refs is None:
        _folders({pictures: zips}, report)
        return
    images, instances = known
    problems = [p for ref in refs if (p := _object_problem(ref, images, instances))]
    splits = ", ".join(f"{split} {count}" for split, count in sorted(Counter(r["split"] for r in refs).items()))
    report.problems(root / name / refs_file, problems, f"{len(refs)} objects ({splits})", source)
    used = sorted({ref.get("image_id") for ref in refs} & set(images))
    _folder(pictures, {images[i].file_name for i in used}, zips, report)
    chosen = report.chosen(used)
    found = [p for i in chosen if (p := _image_problem(images[i], pictures / images[i].file_name))]
    report.problems(pictures, found, f"{len(chosen)} images of {name} opened", zips)


PARTS: dict[str, Callable[[Path, Report], None]] = {
    "png_train": partial(check_png, split="train"),
    "png_val": partial(check_png, split="val"),
    **{name: partial(check_refs, name=name, refs_file=file) for name, (file, _) in REFCOCO.items()},
}


@no_collection()
def _read(path: Path, source: str, reader: Callable[[Path], Any], report: Report) -> Any:
    """What the reader makes of a file, or None after reporting why not."""
    try:
        return reader(path)
    except FileNotFoundError:
        report.broken(path, "missing", source, path.name)
    except ValueError as error:
        report.broken(path, f"unreadable: {error}", source, path.name)
    return None


def _folders(sources: dict[Path, str], report: Report) -> None:
    """Tell which folders are missing, when it is not known what they should hold."""
    for folder, source in sources.items():
        if not folder.is_dir():
            report.broken(folder, "missing", source, folder.name)


def _folder(folder: Path, needed: Iterable[str], source: str, report: Report) -> None:
    """Every needed file is in the folder; a folder that was not unpacked to its end shows here."""
    wanted = sorted(needed)
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    missing = [name for name in wanted if name not in present]
    if not missing:
        report.ok(folder, f"all {len(wanted)} files")
        return
    state = f"cut short: {len(missing)} of {len(wanted)} files missing" if present else f"missing, {len(wanted)} files"
    report.broken(folder, f"{state}, the first {missing[0]}", source, folder.name)


def _png_problem(image, segments, folder: Path, pictures: Path) -> str:
    """Find what is wrong with the files of one caption; missing ones were reported already."""
    try:
        ids = segment_map(folder / image.segm_file)
        if ids.shape != (image.height, image.width):
            size = f"{ids.shape[0]} x {ids.shape[1]}, not {image.height} x {image.width}"
            return f"{folder / image.segm_file} is {size} (height x width)"
        absent = {i for segment in segments for i in segment.ids} - set(np.unique(ids).tolist())
        if absent:
            return f"{folder / image.segm_file} has no pixel of segments {sorted(absent)}"
        as_annotated(read_image(pictures / image.file_name), (image.height, image.width), image.file_name)
    except FileNotFoundError:
        return ""
    except ValueError as error:
        return str(error)
    return ""


def _image_problem(image: CocoImage, path: Path) -> str:
    """Find what is wrong with one image; missing files were reported already."""
    try:
        as_annotated(read_image(path), (image.height, image.width), str(path))
    except FileNotFoundError:
        return ""
    except ValueError as error:
        return str(error)
    return ""


def _object_problem(ref: Ref, images: dict[int, CocoImage], instances: dict[int, Instance]) -> str:
    """What would be refused when it is loaded, or when its sample is made."""
    if problem := ref_problem(ref, images, instances):
        return problem
    image = images[ref["image_id"]]
    if not has_pixels(instances[ref["ann_id"]].shape, image.height, image.width):
        return f"annotation {ref['ann_id']} covers no pixel of image {ref['image_id']}: its mask would be empty"
    return ""
