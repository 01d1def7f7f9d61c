"""What `flmm demo` shows of its steps: tables in the terminal, and a page with pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flmm.evaluation.plots.page import add_phrases
from flmm.evaluation.report import Report, draw_curves, read_scalars
from flmm.evaluation.report_text import METRICS, PICTURES, TRAINING, meaning
from flmm.evaluation.tables import PNG_HEADER, RES_HEADER, png_rows, print_table, res_rows

ABILITIES = ("what", "percent")
PROTOCOLS = {"res_concat": "first sentences in one caption", "res_per_sentence": "every sentence on its own"}


@dataclass(frozen=True)
class Made:
    """What the steps of the demo make.

    Attributes:
        training: Folder of the training.
        checkpoint: The trained head.
        metrics: PNG of the trained and the untrained head, and both RES protocols.
        abilities: What scripts/tiny/measure.py says of other pictures.
        sentence: Picture of a free sentence.
        answer: Picture of an answer.
        chain: Metrics of a chain of thought; its pictures lie beside them.
        samples: Pictures of PNG samples.
        figures: Plots.
        records: What was found in each sample of PNG.
        images: The pictures of PNG.
    """

    training: Path
    checkpoint: Path
    metrics: Mapping[str, Path]
    abilities: Path
    sentence: Path
    answer: Path
    chain: Path
    samples: Sequence[Path]
    figures: Sequence[Path]
    records: Path
    images: Path

    def splits(self) -> dict[str, Any]:
        """The metrics by name and split."""
        return {name: json.loads(file.read_text())["splits"] for name, file in self.metrics.items()}

    def pictures(self) -> list[Path]:
        """All pictures, in the order of the report."""
        return [self.sentence, self.answer, min(self.chain.parent.glob("*.pictures/*.jpg")), *self.samples]


def write_report(made: Made, file: Path, times: Mapping[str, float]) -> Path:
    """The page; `times` are the seconds of each command."""
    abilities = json.loads(made.abilities.read_text())
    report = Report("F-LMM demo: phrases grounded by a frozen tiny LLaVA")
    report.heading("Metrics on unseen pictures, in percent")
    report.paragraph(METRICS)
    for title, header, rows in tables(made.splits()):
        report.table(title, header, rows)
    report.table("What it finds and says", ABILITIES, [[*row] for row in abilities.items()])
    report.terms({column: meaning(column) for column in dict.fromkeys((*PNG_HEADER, *RES_HEADER))})
    report.heading("Training")
    report.paragraph(TRAINING)
    report.figure(draw_curves(read_scalars(made.training)))
    report.heading("Pictures")
    report.paragraph(PICTURES)
    for picture in made.pictures():
        report.picture(picture, picture.name)
    add_phrases(report, made.records, made.images)
    report.heading("What the frozen LMM looks at")
    for figure in made.figures:
        report.plot(figure.read_text())
    report.heading("Commands")
    report.commands(f"{command}   # {minutes(seconds)}" for command, seconds in times.items())
    return report.write(file)


def minutes(seconds: float) -> str:
    """A duration for people."""
    return f"{int(seconds) // 60} min {seconds % 60:02.0f} s"


def tables(results: Mapping[str, Any]) -> list[tuple[str, Sequence[str], list[list[Any]]]]:
    """Title, header and rows of the demo's tables."""
    png = png_rows(results["png"]["val"])
    untrained = [[f"{kind}, untrained head", *row] for kind, *row in png_rows(results["untrained"]["val"])]
    return [
        ("Panoptic Narrative Grounding", PNG_HEADER, png + untrained),
        *(
            (f"Referring expressions, {name.removeprefix('res_')}: {text}", RES_HEADER, res_rows(results[name]))
            for name, text in PROTOCOLS.items()
        ),
    ]


def show(made: Made) -> None:
    """Prints average recall and mean IoU of refined and coarse masks, then what else was measured."""
    results, abilities = made.splits(), json.loads(made.abilities.read_text())
    rows = [["PNG val", *_averages(results["png"]["val"], "all", "average_recall")]]
    rows += [["PNG val, untrained head", *_averages(results["untrained"]["val"], "all", "average_recall")]]
    for name in PROTOCOLS:
        for split, metrics in results[name].items():
            rows.append([f"{split}, {name.removeprefix('res_')}", *_averages(metrics, "mIoU")])
    print()
    print_table("Mean IoU in percent on unseen pictures", ("data", "refined", "coarse"), rows)
    print_table("What it finds and says, on other unseen pictures", ABILITIES, [[*row] for row in abilities.items()])


def _averages(metrics: dict[str, Any], *keys: str) -> list[Any]:
    values = []
    for kind in ("refined", "coarse"):
        value: Any = metrics[kind]
        for key in keys:
            value = value[key]
        values.append(value)
    return values
