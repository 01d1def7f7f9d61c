"""Every command of README and docs: the program is known, files exist, arguments parse; the cheap ones run."""

import argparse
import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from flmm.cli.main import COMMANDS, main
from flmm.config import TINY_CHECKPOINT, TINY_CONFIG

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "checkpoints/README.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
OURS = ("flmm", "xtuner", "accelerate", "torchrun", "python", "make")
OTHERS = ("uv", "pip", "source", "hf", "tensorboard", "git", "exit", ".venv/bin/python", "apt-get", "pytest", "docker")
PLACEHOLDERS = {
    "CONFIG": TINY_CONFIG,
    "FORMAT": "coco",
    "configs/own/mine.py": TINY_CONFIG,  # docs/use.md writes it
    **dict.fromkeys(("CHECKPOINT", "NEW_HEAD.pth", "HEAD.pth", "$CKPT"), TINY_CHECKPOINT),
}
OPERATORS = ("&&", "||", "|", ";")
INLINE = re.compile(rf"`((?:[A-Z_]+=\S+\s+)*(?:{'|'.join(OURS)})\s[^`]+)`")


class ParsedError(Exception):
    """The arguments of a script are as it wants them."""


def commands(page: str) -> Iterator[str]:
    """Lines of a page's blocks for the shell, and commands inside its sentences."""
    text = (ROOT / page).read_text()
    for language, block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL):
        if language == "bash" or block.split()[0] in OURS:
            yield from block.replace("\\\n", " ").splitlines()
    for inline in INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if "..." not in inline and "[" not in inline:
            yield " ".join(inline.split())


def words_of(line: str) -> Iterator[list[str]]:
    """The commands of a line, without variables and srun, with something real in the place of CONFIG and the like."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), ";"]:
        if word in OPERATORS:
            if words:
                yield words
            words = []
        elif words or not re.match(r"[A-Z_]+=|srun$|--kill-on-bad-exit", word):
            words.append(PLACEHOLDERS.get(word, word))


def test_lines_are_read_as_a_shell_reads_them():
    line = "NPROC=2 srun --kill-on-bad-exit=1 flmm train CONFIG --seed 1 || exit 1   # as ever"
    assert list(words_of(line)) == [["flmm", "train", TINY_CONFIG, "--seed", "1"], ["exit", "1"]]


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_as_their_programs_want_them(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = [words for line in commands(page) if not line.startswith("CKPT=") for words in words_of(line)]
    wrong = {shlex.join(words): problem for words in found if (problem := problem_of(words, monkeypatch))}
    assert not wrong
    if page in ("README.md", "docs/evaluation.md", "docs/training.md"):
        assert len(found) > 10


def problem_of(words: list[str], monkeypatch) -> str:
    """What is wrong with a command; empty when nothing is."""
    if words[0] in OTHERS:
        return ""
    if words[0] not in OURS:
        return f"{words[0]} is no program that this test knows"
    if absent := [word for word in words if word.startswith(("configs/", "scripts/")) and not (ROOT / word).exists()]:
        return f"{absent[0]} is not there"
    if words[0] == "make":
        return problem_of_make(words[1:])
    if words[0] in ("flmm", "xtuner"):
        return problem_of_flmm(words[1:])
    place = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    return "" if place is None else problem_of_script(words[place], words[place + 1 :], monkeypatch)


def problem_of_make(words: list[str]) -> str:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = {word for word in words if "=" not in word and not word.startswith("-")} - targets
    return f"no target {unknown}" if unknown else ""


def problem_of_flmm(words: list[str]) -> str:
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    if name is None:
        return "" if words[0].startswith(("-", "COMMAND")) else f"no command {words[0]}"
    given = words[len(name.split()) :]
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[name][0]).add_arguments(parser)
    try:  # in a sentence a command may stand for all of its arguments
        parser.parse_args(given) if given else None
    except SystemExit as ended:
        return "its arguments do not parse" if ended.code else ""
    return ""


def problem_of_script(script: str, words: list[str], monkeypatch) -> str:
    """Run a script up to where it has parsed its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *args):
        parse(parser, *args)
        raise ParsedError

    known = set(sys.modules)
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [script, *words])
        patch.syspath_prepend(str((ROOT / script).parent))
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except ParsedError:
            return ""
        except SystemExit:
            return "its arguments do not parse"
        finally:  # folders of scripts have modules of the same name
            for name in set(sys.modules) - known:
                if "/scripts/" in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]
    return "it parses no arguments"


@pytest.mark.parametrize("page", PAGES)
def test_python_of_the_pages_is_python(page):
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        compile(block, page, "exec")


@pytest.mark.slow
def test_the_page_on_use_runs(tmp_path, monkeypatch):
    """Its Python in order, its commands, and a training step with the loss and the head that it shows."""
    from flmm.datasets.shapes import make_shapes

    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    for folder in ("_base_", "tiny"):
        (tmp_path / "configs" / folder).parent.mkdir(exist_ok=True)
        (tmp_path / "configs" / folder).symlink_to(ROOT / "configs" / folder)
    make_shapes(tmp_path / "data/shapes", train=1, val=4, workers=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/use.md").read_text(), re.DOTALL):
        if file := re.match(r"# (\S+\.py)", block):
            (tmp_path / file[1]).parent.mkdir(exist_ok=True)
            (tmp_path / file[1]).write_text(block)
        else:
            exec(block, found)
    assert found["wide"].masks[found["result"].masks].all()  # lower threshold: nothing is lost
    assert found["wide"].masks.sum() > found["result"].masks.sum()
    assert found["masks"].shape == (1, *found["result"].masks.shape[1:])
    overlap = (found["masks"][0] & found["result"].masks[0]).sum() / found["result"].masks[0].sum()
    assert overlap > 0.7
    run_its_commands(tmp_path)
    train_a_step(tmp_path / "configs/own/mine.py")


def run_its_commands(folder):
    (folder / "texts.tsv").write_text("000000500003.jpg\ta large purple cross on the road .\ta large purple cross\n")
    lines = [line for line in commands("docs/use.md") if line.startswith("flmm ground")]
    assert len(lines) == 3
    assert [main(shlex.split(line)[1:]) for line in lines] == [0, 0, 0]
    assert (folder / "work_dirs/mine/000000500003.png").is_file()
    assert len(json.loads((folder / "found.json").read_text())["images"]) == 1


def train_a_step(config):
    """The loss is that of the page, and it moves the head of the page."""
    from my_parts import FocalLoss, TwoLayers

    from flmm.config import build_model, png_dataset, read_config

    settings = read_config(config)
    model = build_model(settings)
    assert isinstance(model.mask_head, TwoLayers)
    assert isinstance(model.loss_mask, FocalLoss)
    terms = model.loss([png_dataset(settings, "data/shapes")[0]])
    (terms["loss_mask"] + terms["sam_loss_mask"]).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.mask_head.parameters())
