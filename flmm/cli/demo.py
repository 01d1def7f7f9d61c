"""The main job with the tiny model: make data, train a head, evaluate it, ground, ask and look again, write a report.

Every step runs the command that a user would type; what is there already is reused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flmm.config import TINY_CONFIG
from flmm.evaluation.plots.page import add_phrases
from flmm.evaluation.report import Report, draw_curves, read_scalars
from flmm.evaluation.report_text import METRICS, PICTURES, TRAINING, meaning
from flmm.evaluation.tables import PNG_HEADER, RES_HEADER, png_rows, print_table, res_rows

DATA = "data/shapes"
MANIFEST = "data/shapes/manifest.json"
EVAL_PNG, EVAL_RES = "scripts/multiprocess_eval_png.py", "scripts/multiprocess_eval_refcoco.py"
LAUNCH = ["accelerate", "launch", "--num_processes", "1", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no"]
PARTS = ("train", "eval", "pictures", "figures")  # folders of what is made of the data; a name in them says the rest
SHOWN, MEASURED = 6, 20  # samples in the report, and those that the heads are measured on
SHARE = 0.3  # of the scenes that scripts/tiny/measure.py would take
ITERATIONS = 800  # half of what the head in checkpoints/ was trained for
ABILITIES = ("what", "percent")
CHAINS = "*_visual_cot_v1_debug/*.pictures/*.jpg"
PROGRESS = re.compile(r"Iter\(train\)\s*\[\s*(\d+)/\s*(\d+)\].*?(loss: [\d.]+)?$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm demo`."""
    parser.add_argument("--output", default="work_dirs/demo", help="folder for everything but data [%(default)s]")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="length of the training [%(default)s]")
    parser.add_argument("--pictures", type=int, help="train on this many pictures only, to try the demo itself")
    parser.add_argument("--limit", type=int, help="evaluate only this many pictures of each split")


def run(args: argparse.Namespace) -> int:
    """Runs the demo; returns 0, or the exit status of the step that failed."""
    if not Path(TINY_CONFIG).is_file():
        raise FileNotFoundError(f"{TINY_CONFIG} is not here: run `flmm demo` from the root of the repository")
    try:
        Demo(Path(args.output), args.iterations, args.limit, args.pictures).run()
    except subprocess.CalledProcessError as error:
        print(f"flmm demo: this step failed: {shlex.join(error.cmd)}\n{error.stderr or ''}", file=sys.stderr)
        return error.returncode if error.returncode > 0 else 1
    return 0


class Demo:
    """The steps, and what they leave in `folder`.

    Args:
        folder: Checkpoint, metrics, pictures and report.
        iterations: Length of the training.
        limit: How many pictures of each split are evaluated; by default all.
        pictures: How many there are to train on; by default those of `flmm data shapes`.
    """

    def __init__(
        self, folder: Path, iterations: int = ITERATIONS, limit: int | None = None, pictures: int | None = None
    ):
        self.folder = folder
        self.iterations = iterations
        self.limit = limit
        self.data_options = ["--train", str(pictures), "--val", str(max(8, pictures // 20))] if pictures else []
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """All steps, in order."""
        start = time.monotonic()
        self.step("make the shapes data", [*FLMM, "data", "shapes", "--out", DATA, *self.data_options])
        self.drop_outdated()
        checkpoint = self.train()
        results, abilities = self.evaluate(checkpoint), self.measure(checkpoint)
        pictures = self.pictures(checkpoint)
        report = self.report(results, abilities, pictures, self.figures(checkpoint))
        show(results, abilities)
        print(f"report: {report}\npictures: {pictures[0].parent}\nwall time: {minutes(time.monotonic() - start)}")

    def step(self, title: str, command: Sequence[str], log: Path | None = None) -> None:
        """Runs a command and notes its time; with a log its output goes there and shows as a progress bar.

        Raises:
            subprocess.CalledProcessError: When it fails; `stderr` is the end of the log.
        """
        print(f"\n== {title}\n$ {shlex.join(shown(command))}", flush=True)
        start = time.monotonic()
        status = _follow(command, log) if log else subprocess.run(command, env=_environment()).returncode
        if status:
            raise subprocess.CalledProcessError(status, shown(command), stderr=_tail(log) if log else None)
        done = {**self._steps(), title: [time.monotonic() - start, shlex.join(shown(command))]}
        (self.folder / "steps.json").write_text(json.dumps(done))

    def _steps(self) -> dict[str, tuple[float, str]]:
        """Seconds and command of each step, of this run or of the one whose results are reused."""
        file = self.folder / "steps.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def drop_outdated(self) -> None:
        """Remove what an earlier run made of another config, LMM, data or length; all that is there is up to date.

        Raises:
            FileExistsError: When the folder holds something else under a name that the demo writes.
        """
        note = self.folder / "made_of"
        made_of = f"{_hash(TINY_CONFIG, 'configs/_base_', 'checkpoints/tiny_llava', MANIFEST)} {self.iterations}"
        outdated = [self.folder / name for name in PARTS if (self.folder / name).exists()]
        if note.is_file() and note.read_text() == made_of:
            return
        if outdated and not note.is_file():
            raise FileExistsError(f"{outdated[0]} was not made by this demo: name another folder with --output")
        for folder in outdated:
            shutil.rmtree(folder)
        note.write_text(made_of)

    def train(self) -> str:
        """Trains the head, goes on with an interrupted training, or reuses the head; returns its checkpoint."""
        folder = self.folder / "train"
        head = folder / f"iter_{self.iterations}.pth"
        if not head.is_file():
            folder.mkdir(exist_ok=True)
            decayed = max(self.iterations, 100)  # the rate falls to zero over them, after a warm-up of 48
            options = [f"train_cfg.max_iters={self.iterations}", f"param_scheduler.1.end={decayed}"]
            command = [*FLMM, "train", TINY_CONFIG, "--work-dir", str(folder), "--resume", "--cfg-options", *options]
            self.step("train the head", command, folder / "console.log")
        return str(head)

    def evaluate(self, checkpoint: str) -> dict[str, Any]:
        """Metrics of PNG and of both RES protocols with the trained head, of PNG with an untrained one."""
        trained, untrained = self.evaluated(), self.folder / "eval/untrained"
        limit = ["--limit", str(self.limit)] if self.limit else []
        with_head = ["--checkpoint", checkpoint, *limit]
        runs = {
            "png": (trained / "png.json", EVAL_PNG, with_head),
            "res_concat": (trained / "res_concat.json", EVAL_RES, [*with_head, "--concat"]),
            "res_per_sentence": (
                trained / "res_per_sentence.json",
                EVAL_RES,
                # ten times as many samples as with --concat: one split shows the protocol
                [*with_head, "--split", "refcoco_val"],
            ),
            "untrained": (untrained / "png.json", EVAL_PNG, ["--limit", str(self.limit or 20)]),
        }
        for name, (file, script, options) in runs.items():
            if not file.is_file():
                arguments = [TINY_CONFIG, *options, "--data-root", DATA, "--output", str(file.parent)]
                self.step(f"evaluate: {name}", [*LAUNCH, script, *arguments])
        return {name: json.loads(file.read_text())["splits"] for name, (file, _, _) in runs.items()}

    def evaluated(self) -> Path:
        """Where the records and metrics of the trained head are."""
        return self.folder / "eval" / (f"first_{self.limit}" if self.limit else "all")

    def figures(self, checkpoint: str) -> list[Path]:
        """Which heads of the LMM ground, and what the head learned about its layers."""
        heads, layers = (self.folder / "figures" / f"{name}.svg" for name in ("heads", "layers"))
        measured = ["--data-root", DATA, "--limit", str(MEASURED)]
        steps = {"measure the heads": (heads, measured), "weigh the layers": (layers, ["--checkpoint", checkpoint])}
        for title, (file, options) in steps.items():
            if not file.is_file():
                self.step(title, [*FLMM, "plot", file.stem, TINY_CONFIG, *options, "--out", str(file)])
        return [heads, layers]

    def measure(self, checkpoint: str) -> dict[str, float]:
        """What scripts/tiny/measure.py says of other pictures, in percent: free texts, questions, signs, queries."""
        file = self.folder / "eval/abilities.json"
        if not file.is_file():
            share = SHARE if self.limit is None else 0.02
            options = ["--checkpoint", checkpoint, "--share", str(share), "--out", str(file)]
            self.step("measure what it finds and says", [sys.executable, "scripts/tiny/measure.py", *options])
        return json.loads(file.read_text())

    def pictures(self, checkpoint: str) -> list[Path]:
        """A free sentence, a question and a chain of thought, and some PNG samples with their ground truth."""
        folder, model = self.folder / "pictures", [TINY_CONFIG, "--checkpoint", checkpoint]
        sentence, answer = folder / "grounding.png", folder / "question"
        if not sentence.is_file():
            image, text, phrases = free_sentence(DATA)
            words = [word for phrase in phrases for word in ("--phrase", phrase)]
            command = [*FLMM, "ground", str(image), text, *words, "--config", *model, "--out", str(sentence)]
            self.step("ground a sentence", command)
        if not (answer / "grounding.png").is_file():
            image, asked = first_query(DATA)
            options = ["--ground", "--config", *model, "--out", str(answer)]
            self.step("ask a question", [*FLMM, "chat", str(image), "--question", asked, *options])
        samples = [folder / f"val_{number:06d}.png" for number in range(SHOWN)]
        if not all(sample.is_file() for sample in samples):
            options = ["--data-root", DATA, "--limit", str(SHOWN), "--output", str(folder)]
            self.step("draw samples", [*LAUNCH, "scripts/demo/multiprocess_infer_png.py", *model, *options])
        return [sentence, answer / "grounding.png", self.chain(folder, model), *samples]

    def chain(self, folder: Path, model: Sequence[str]) -> Path:
        """The picture of a visual chain of thought: a sign that is read after a closer look."""
        if not list(folder.glob(CHAINS)):
            options = ["--benchmark", f"{DATA}/cot", "--image_folder", DATA, "--save_folder", str(folder), "--debug"]
            self.step("look again", [*LAUNCH, "scripts/visual_cot/visual_cot_inference.py", *model, *options])
        return min(folder.glob(CHAINS))

    def report(
        self, results: dict[str, Any], abilities: dict[str, float], pictures: list[Path], figures: list[Path]
    ) -> Path:
        """Writes the HTML report."""
        report = Report("F-LMM demo: phrases grounded by a frozen tiny LLaVA")
        report.heading("Metrics on unseen pictures, in percent")
        report.paragraph(METRICS)
        for title, header, rows in tables(results):
            report.table(title, header, rows)
        report.table("What it finds and says", ABILITIES, [[*row] for row in abilities.items()])
        report.terms({column: meaning(column) for column in dict.fromkeys((*PNG_HEADER, *RES_HEADER))})
        report.heading("Training")
        report.paragraph(TRAINING)
        report.figure(draw_curves(read_scalars(self.folder / "train")))
        report.heading("Pictures")
        report.paragraph(PICTURES)
        for picture in pictures:
            report.picture(picture, picture.name)
        add_phrases(report, self.evaluated() / "png_val.teacher_forced", Path(DATA, "val2017"))
        report.heading("What the frozen LMM looks at")
        for figure in figures:
            report.plot(figure.read_text())
        report.heading("Commands")
        report.commands(f"{command}   # {minutes(seconds)}" for seconds, command in self._steps().values())
        return report.write(self.folder / "report.html")


FLMM = (sys.executable, "-m", "flmm.cli.main")


def shown(command: Sequence[str]) -> list[str]:
    """A command as a user types it."""
    words = list(command)
    if tuple(words[:3]) == FLMM:
        return ["flmm", *words[3:]]
    return ["python", *words[1:]] if words[0] == sys.executable else words


def minutes(seconds: float) -> str:
    """A duration for people."""
    return f"{int(seconds) // 60} min {seconds % 60:02.0f} s"


def tables(results: dict[str, Any]) -> list[tuple[str, Sequence[str], list[list[Any]]]]:
    """Title, header and rows of the demo's tables."""
    png = png_rows(results["png"]["val"])
    untrained = [[f"{kind}, untrained head", *row] for kind, *row in png_rows(results["untrained"]["val"])]
    protocols = {"res_concat": "first sentences in one caption", "res_per_sentence": "every sentence on its own"}
    return [
        ("Panoptic Narrative Grounding", PNG_HEADER, png + untrained),
        *(
            (f"Referring expressions, {name.removeprefix('res_')}: {text}", RES_HEADER, res_rows(results[name]))
            for name, text in protocols.items()
        ),
    ]


def show(results: dict[str, Any], abilities: dict[str, float]) -> None:
    """Prints average recall and mean IoU of refined and coarse masks, then what else was measured."""
    rows = [["PNG val", *_averages(results["png"]["val"], "all", "average_recall")]]
    rows += [["PNG val, untrained head", *_averages(results["untrained"]["val"], "all", "average_recall")]]
    for name in ("res_concat", "res_per_sentence"):
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


def free_sentence(root: str) -> tuple[Path, str, list[str]]:
    """Picture, text and phrases of a validation text in free words that names two things, none of them twice."""
    captions = json.loads(Path(root, "annotations/png_coco_val2017.json").read_text())
    for item in reversed(captions):  # canonical captions come first
        phrases = [part["utterance"] for part in item["segments"] if part["segment_ids"]]
        if len(phrases) > 1 and len(set(phrases)) == len(phrases):
            return Path(root, "val2017", f"{int(item['image_id']):012d}.jpg"), item["caption"], phrases
    raise ValueError(f"{root} has no text that names two different things")


def first_query(root: str) -> tuple[Path, str]:
    """Picture and words of the first implicit query of the validation data."""
    from flmm.datasets.reason_seg import ReasonSeg
    from flmm.evaluation.answers import BRIEFLY, query

    question = ReasonSeg(Path(root, "ReasonSeg"), "val")[0]
    return question.image, query(question) + BRIEFLY


def _hash(*paths: str) -> str:
    """A short hash of the bytes of files, and of all files in folders."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:12]


def _environment() -> dict[str, str]:
    """What steps run with: xtuner and accelerate start whatever `python` is first on the PATH: make it this one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path}


def _follow(command: Sequence[str], log: Path) -> int:
    """Runs a training with its output in a file, shown as a progress bar; returns the exit status."""
    with (
        log.open("w") as file,
        tqdm(desc="training", unit="it") as bar,
        subprocess.Popen(
            command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child,
    ):
        for line in child.stdout or ():
            file.write(line)
            if found := PROGRESS.search(line.rstrip()):
                bar.total = int(found[2])
                bar.update(int(found[1]) - bar.n)
    return child.returncode


def _tail(log: Path) -> str:
    """The end of a log, and where the rest is."""
    return "\n".join([*log.read_text().splitlines()[-30:], f"(all of it: {log})"])
