"""The checks of ReasonSeg and GranD-f."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flmm.datasets import gcg, reason_seg
from flmm.datasets.check_parts import Report

REASON_SEG = "https://github.com/dvlab-research/LISA#dataset (ReasonSeg: train, val and test zip files on Google Drive)"
GRANDF = "https://huggingface.co/datasets/MBZUAI/GranD-f (annotations) and GranDf_HA_images.zip of GLaMM (pictures)"


def is_reason_seg(root: Path) -> bool:
    """Tell whether a folder has splits of pictures with an annotation of the same name beside them."""
    return root.name == "ReasonSeg" or any(next((root / name).glob("*.json"), None) for name in reason_seg.SPLITS)


def is_grandf(root: Path) -> bool:
    """Tell whether a folder has the annotations of grounded captions."""
    return root.name == "GranDf" or (root / gcg.ANNOTATIONS).is_dir()


def check_reason_seg(root: Path, report: Report) -> None:
    """Every annotation can be read and has its picture; a sample of pictures opens and has a mask."""
    for split in reason_seg.SPLITS:
        folder = root / split
        try:
            files = reason_seg.annotation_files(root, split)
        except FileNotFoundError:
            report.broken(folder, "missing, or without annotations", REASON_SEG, "ReasonSeg")
            continue
        questions, problems = [], []
        for file in files:
            try:
                questions.append((file, reason_seg.read_question(file)))
            except (ValueError, FileNotFoundError) as error:
                problems.append(str(error))
        report.problems(folder, problems, f"{len(files)} annotations", REASON_SEG)
        _describe(folder, [q for _, q in questions], report)
        if bare := [file.name for file, question in questions if not question.shapes]:
            report.note(folder, f"{len(bare)} without a polygon are left out: {', '.join(bare)}")
        chosen = report.chosen([question for _, question in questions if question.shapes])
        found = [problem for question in chosen if (problem := _picture_problem(question))]
        report.problems(folder, found, f"{len(chosen)} pictures opened with their masks", REASON_SEG)


def _describe(folder: Path, questions: list[reason_seg.Question], report: Report) -> None:
    sentences = sum(question.is_sentence for question in questions)
    report.ok(folder, f"{sentences} long queries, {len(questions) - sentences} short ones")


def _picture_problem(question: reason_seg.Question) -> str:
    try:
        _, mask = reason_seg.open_question(question)
    except (ValueError, OSError) as error:
        return str(error)
    return "" if (mask == 1).any() else f"{question.image}: no pixel of a target, is it the right picture?"


def check_grandf(root: Path, report: Report) -> None:
    """Captions, masks and pictures of each split agree."""
    for split in gcg.SPLITS:
        captions, masks = gcg.annotation_files(root, split)
        absent = [file for file in (captions, masks) if not file.is_file()]
        for file in absent:
            report.broken(file, "missing", GRANDF, file.name)
        if absent:
            continue
        try:
            items = gcg.read_ground_truth(captions, masks)
        except ValueError as error:
            report.broken(captions, str(error), GRANDF)
            continue
        labels = sum(len(item.phrases) for item in items)
        report.ok(captions, f"{len(items)} captions with {labels} phrases, a mask each")
        problems = [str(file) for item in items if not (file := gcg.picture(root, item.image_id)).is_file()]
        report.problems(gcg.picture(root, "").parent, problems, f"{len(items)} pictures", GRANDF)
        chosen = report.chosen(items)
        found = [problem for item in chosen if (problem := gcg.picture_problem(root, item))]
        report.problems(captions, found, f"{len(chosen)} pictures opened with their masks", GRANDF)


LAYOUTS: dict[Callable[[Path], bool], Callable[[Path, Report], None]] = {
    is_reason_seg: check_reason_seg,
    is_grandf: check_grandf,
}
