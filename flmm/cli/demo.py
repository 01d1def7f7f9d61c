"""The main job with the tiny model: make data, train a head, evaluate it, ground, ask and look again, write a report.

Every step is a command that a user would type. What it makes is kept, so the same command goes on where an earlier one
stopped. A folder holds one demo: one of another length, config, LMM or number of pictures needs another --output.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from flmm.cli.demo_report import Made, minutes, show, write_report
from flmm.config import TINY_CONFIG
from flmm.console import progress

DATA = Path("data/shapes")
FLMM = (sys.executable, "-m", "flmm.cli.main")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch")  # starts seconds earlier than `accelerate launch`
LAUNCH = (
    *(*ACCELERATE, "--num_processes", "1", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no"),
)
PARTS = ("train", "eval", "pictures", "figures")  # folders of what is made of the data; a name in them says the rest
SHOWN, MEASURED = 6, 20  # samples in the report, and those that the heads are measured on
UNTRAINED = 20  # pictures that tell what chance reaches
SHARE = 0.3  # of the scenes that scripts/tiny/measure.py would take
ITERATIONS = 800  # a fifth of what the head in checkpoints/ was trained for
PROGRESS = re.compile(r"Iter\(train\)\s*\[\s*(\d+)/\s*(\d+)\].*?(loss: [\d.]+)?$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm demo`."""
    parser.add_argument("--output", default="work_dirs/demo", help="folder for everything but data [%(default)s]")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="length of the training [%(default)s]")
    parser.add_argument(
        "--pictures", type=int, help=f"train on this many pictures only, to try the demo; they replace those in {DATA}"
    )
    parser.add_argument("--limit", type=int, help="evaluate only this many pictures of each split")


def run(args: argparse.Namespace) -> int:
    """Runs the demo; returns 0, or the exit status of the step that failed.

    Raises:
        FileNotFoundError: Outside of the repository.
        FileExistsError: When the folder holds another demo, or something else.
    """
    if not Path(TINY_CONFIG).is_file():
        raise FileNotFoundError(f"{TINY_CONFIG} is not here: run `flmm demo` from the root of the repository")
    try:
        Demo(Path(args.output), args.iterations, args.limit, args.pictures).run()
    except subprocess.CalledProcessError as error:
        print(f"flmm demo: this step failed: {shlex.join(error.cmd)}\n{error.stderr or ''}", file=sys.stderr)
        return error.returncode if error.returncode > 0 else 1
    except KeyboardInterrupt:
        print("\nflmm demo: stopped; the same command continues where it stopped", file=sys.stderr)
        return 130
    return 0


class Step(NamedTuple):
    """A command, which is left out when what it makes is there; its output goes to the log if there is one."""

    title: str
    command: Sequence[str]
    makes: Path
    log: Path | None = None


@dataclass(frozen=True)
class Demo:
    """The steps, and what they leave in a folder.

    Attributes:
        folder: Checkpoint, metrics, pictures and report.
        iterations: Length of the training.
        limit: How many pictures of each split are evaluated; by default all.
        pictures: How many there are to train on; by default those of `flmm data shapes`.
    """

    folder: Path
    iterations: int = ITERATIONS
    limit: int | None = None
    pictures: int | None = None

    def run(self) -> None:
        """All steps, in order."""
        start = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.claim()
        times = self.folder / "steps.json"  # seconds by command, of this run or of an earlier one
        self.follow(self.data_step(), times)  # always: it makes what is missing
        for step in self.steps():
            if not step.makes.is_file():
                self.follow(step, times)
        made = self.made()
        show(made)
        report = write_report(made, self.folder / "report.html", self.seconds(times))
        print(f"report: {report}\npictures: {self.folder / 'pictures'}")
        print(f"wall time: {minutes(time.monotonic() - start)}")

    def follow(self, step: Step, times: Path) -> None:
        """Runs a step and notes its time.

        Raises:
            subprocess.CalledProcessError: When it fails; `stderr` is the end of the log.
        """
        command = shown(step.command)
        print(f"\n== {step.title}\n$ {shlex.join(command)}", flush=True)
        start = time.monotonic()
        if status := _run(step):
            raise subprocess.CalledProcessError(status, command, stderr=_tail(step.log) if step.log else None)
        before = json.loads(times.read_text()) if times.is_file() else {}
        times.write_text(json.dumps({**before, shlex.join(command): time.monotonic() - start}))

    def seconds(self, times: Path) -> dict[str, float]:
        """The seconds of this demo's commands; the file may have those of another --limit too."""
        known = json.loads(times.read_text())
        commands = [shlex.join(shown(step.command)) for step in (self.data_step(), *self.steps())]
        return {command: known[command] for command in commands if command in known}

    def claim(self) -> None:
        """Take the folder for this demo, and say of what it is.

        Raises:
            FileExistsError: When it holds another demo, or something else under a name that the demo writes.
        """
        from flmm.datasets.shapes.files import FORMAT

        note, pictures = self.folder / "made_of", self.pictures or "all"
        models = _hash(TINY_CONFIG, "configs/_base_", "checkpoints/tiny_llava")
        made_of = f"{self.iterations} iterations, {pictures} pictures of format {FORMAT}, config and LMM {models}"
        before = note.read_text() if note.is_file() else "something else"
        found = [self.folder / name for name in PARTS if (self.folder / name).exists()]
        if found and before != made_of:
            raise FileExistsError(f"{found[0]} is of {before}; this demo is of {made_of}. Name another --output")
        note.write_text(made_of)

    def made(self) -> Made:
        """Where the report finds what the steps make."""
        evaluated = self.folder / "eval" / (f"first_{self.limit}" if self.limit else "all")  # all that --limit changes
        pictures = self.folder / "pictures"
        chain = pictures / f"{Path(TINY_CONFIG).stem}_visual_cot_v1_debug"
        return Made(
            training=self.folder / "train",
            checkpoint=self.folder / "train" / f"iter_{self.iterations}.pth",
            metrics={name: evaluated / f"{name}.json" for name in ("png", "res_concat", "res_per_sentence")}
            | {"untrained": evaluated / "untrained/png.json"},
            abilities=evaluated / "abilities.json",
            sentence=pictures / "grounding.png",
            answer=pictures / "question/grounding.png",
            chain=chain / "visual_cot.json",
            samples=[pictures / f"val_{number:06d}.png" for number in range(SHOWN)],
            figures=[self.folder / "figures" / f"{name}.svg" for name in ("heads", "layers")],
            records=evaluated / "png_val.teacher_forced",
            images=DATA / "val2017",
        )

    def data_step(self) -> Step:
        """The data set."""
        fewer = ("--train", str(self.pictures), "--val", str(max(8, self.pictures // 20))) if self.pictures else ()
        command = (*FLMM, "data", "shapes", "--out", str(DATA), *fewer)
        return Step("make the shapes data", command, DATA / "manifest.json")

    def steps(self) -> Iterator[Step]:
        """What is done with the data."""
        yield self.training()
        yield from self.evaluations()
        yield from self.drawings()
        yield from self.figures()

    def training(self) -> Step:
        """Trains the head, or goes on with an interrupted training."""
        made = self.made()
        decayed = max(self.iterations, 100)  # the rate falls to zero over them, after a warm-up of 48
        options = (f"train_cfg.max_iters={self.iterations}", f"param_scheduler.1.end={decayed}")
        command = (*FLMM, "train", TINY_CONFIG, "--work-dir", str(made.training), "--resume", "--cfg-options", *options)
        return Step("train the head", command, made.checkpoint, made.training / "console.log")

    def evaluations(self) -> Iterator[Step]:
        """PNG with a trained and an untrained head, both RES protocols, and what else can be measured."""
        made = self.made()
        head = ("--checkpoint", str(made.checkpoint))
        trained = (*head, *(("--limit", str(self.limit)) if self.limit else ()))
        # ten times as many samples as with --concat: one split shows the protocol
        runs = {"png": trained, "res_concat": (*trained, "--concat")}
        runs |= {"res_per_sentence": (*trained, "--split", "refcoco_val")}
        runs |= {"untrained": ("--limit", str(self.limit or UNTRAINED))}
        for name, options in runs.items():
            script = f"scripts/multiprocess_eval_{'refcoco' if name.startswith('res') else 'png'}.py"
            folder = str(made.metrics[name].parent)
            command = (*LAUNCH, script, TINY_CONFIG, *options, "--data-root", str(DATA), "--output", folder)
            yield Step(f"evaluate: {name}", command, made.metrics[name])
        share = SHARE if self.limit is None else 0.02
        measure = (sys.executable, "scripts/tiny/measure.py", *head, "--share", str(share))
        yield Step("measure what it finds and says", (*measure, "--out", str(made.abilities)), made.abilities)

    def drawings(self) -> Iterator[Step]:
        """A free sentence, a question, a chain of thought, and some PNG samples with their ground truth."""
        made, model = self.made(), (TINY_CONFIG, "--checkpoint", str(self.made().checkpoint))
        image, text, phrases = free_sentence(DATA)
        words = [word for phrase in phrases for word in ("--phrase", phrase)]
        ground = (*FLMM, "ground", str(image), text, *words, "--config", *model, "--out", str(made.sentence))
        yield Step("ground a sentence", ground, made.sentence)
        image, asked = first_query(DATA)
        chat = (*FLMM, "chat", str(image), "--question", asked, "--ground", "--config", *model)
        yield Step("ask a question", (*chat, "--out", str(made.answer.parent)), made.answer)
        chain = (*LAUNCH, "scripts/visual_cot/visual_cot_inference.py", *model, "--benchmark", str(DATA / "cot"))
        folders = ("--image_folder", str(DATA), "--save_folder", str(made.chain.parents[1]))
        yield Step("look again", (*chain, *folders, "--debug"), made.chain)
        samples = (*LAUNCH, "scripts/demo/multiprocess_infer_png.py", *model, "--data-root", str(DATA))
        limit = ("--limit", str(SHOWN), "--output", str(made.samples[-1].parent))
        yield Step("draw samples", (*samples, *limit), made.samples[-1])

    def figures(self) -> Iterator[Step]:
        """Which heads of the LMM ground, and what the head learned about its layers."""
        heads, layers = self.made().figures
        measured = ("--data-root", str(DATA), "--limit", str(MEASURED), "--out", str(heads))
        yield Step("measure the heads", (*FLMM, "plot", "heads", TINY_CONFIG, *measured), heads)
        learned = ("--checkpoint", str(self.made().checkpoint), "--out", str(layers))
        yield Step("weigh the layers", (*FLMM, "plot", "layers", TINY_CONFIG, *learned), layers)


def shown(command: Sequence[str]) -> list[str]:
    """A command as a user types it."""
    typed = {FLMM: ["flmm"], ACCELERATE: ["accelerate", "launch"]}
    start = tuple(command[:3])
    return [*typed[start], *command[3:]] if start in typed else ["python", *command[1:]]


def free_sentence(root: Path) -> tuple[Path, str, list[str]]:
    """Picture, text and phrases of a validation text in free words that names two things, none of them twice."""
    captions = json.loads((root / "annotations/png_coco_val2017.json").read_text())
    for item in reversed(captions):  # canonical captions come first
        phrases = [part["utterance"] for part in item["segments"] if part["segment_ids"]]
        if len(phrases) > 1 and len(set(phrases)) == len(phrases):
            return root / "val2017" / f"{int(item['image_id']):012d}.jpg", item["caption"], phrases
    raise ValueError(f"{root} has no text that names two different things")


def first_query(root: Path) -> tuple[Path, str]:
    """Picture and words of the first implicit query of the validation data."""
    from flmm.datasets.reason_seg import ReasonSeg
    from flmm.evaluation.answers import BRIEFLY, query

    question = ReasonSeg(root / "ReasonSeg", "val")[0]
    return question.image, query(question) + BRIEFLY


def _hash(*paths: str) -> str:
    """A short hash of the bytes of files, and of all files in folders."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:12]


def _run(step: Step) -> int:
    """The exit status of a step; with a log, its output goes there and shows as a progress bar."""
    # xtuner and accelerate start whatever `python` is first on the PATH: make it this one
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    if step.log is None:
        return subprocess.run(step.command, env=environment).returncode
    step.log.parent.mkdir(exist_ok=True)
    with (
        step.log.open("w") as file,
        progress(desc="training", unit="it") as bar,
        subprocess.Popen(
            step.command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child,
    ):
        try:
            _follow(child, file, bar)
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)  # a terminal has done so already, and a second one changes nothing
            _follow(child, file, bar)  # it saves what it has trained
            raise
    return child.returncode


def _follow(child: subprocess.Popen, log: IO[str], bar: Any) -> None:
    """Write down what a training prints until it ends, and show its progress."""
    for line in child.stdout or ():
        log.write(line)
        if found := PROGRESS.search(line.rstrip()):
            bar.total = int(found[2])
            bar.update(int(found[1]) - bar.n)


def _tail(log: Path) -> str:
    """The end of a log, and where the rest is."""
    return "\n".join([*log.read_text().splitlines()[-30:], f"(all of it: {log})"])
