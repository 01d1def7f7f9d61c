"""The `flmm` command. A part is imported when it is asked for, so `flmm --help` is quick."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from flmm import __version__
from flmm.cli.script import MENDABLE, said

# Each module has `add_arguments(parser)` and `run(args) -> exit status`.
COMMANDS = {
    "ground": ("flmm.cli.ground", "find the phrases of a sentence in a picture, or in a folder of pictures"),
    "chat": ("flmm.cli.chat", "talk about pictures, ground and explain what is said"),
    "web": ("flmm.cli.web", "the same as a page in the browser"),
    "cases": ("flmm.cli.cases", "ask questions whose answers are known, and report what fails"),
    "train": ("flmm.cli.train", "train a head; what `xtuner train` does, with a true exit status"),
    "download": ("flmm.cli.download", "fetch weights of SAM, LMMs and heads, and compare their checksums"),
    "data check": ("flmm.datasets.check", "validate data folders or your file, and say where the missing comes from"),
    "data convert": ("flmm.cli.data_convert", "make one file of your data from COCO, LabelMe, CVAT and others"),
    "data get": ("flmm.cli.data_get", "fetch data sets; say what has to be fetched by hand"),
    "data shapes": ("flmm.cli.data_shapes", "make the shapes data set"),
    "plot": ("flmm.cli.plot", "draw heads that ground, layer weights, IoU histograms, worst phrases, two runs"),
    "check-backbone": ("flmm.cli.check_backbone", "check where the image tokens of a config's LMM lie"),
    "new-backbone": (
        "flmm.cli.new_backbone",
        "write the config of an image-text model, and check where its tokens lie",
    ),
    "doctor": ("flmm.cli.doctor", "show versions, device, what is missing, and the cure"),
    "demo": ("flmm.cli.demo", "data, training, evaluation and grounding with the tiny model"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status.

    What a user can cure is printed in one line; any other error keeps its traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    if name is None:
        return _no_command(words)
    module = import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(f"flmm {name}", description=module.__doc__)
    module.add_arguments(parser)
    args = parser.parse_args(words[len(name.split()) :])
    try:
        return module.run(args)
    except MENDABLE as error:
        print(f"flmm {name}: {said(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"flmm {name}: stopped", file=sys.stderr)
        return 130


def _no_command(words: list[str]) -> int:
    """Help, version, or the error for a command that there is not.

    A word that several commands begin with, such as `data`, has help of its commands.
    """
    group = words[0] if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    rest = words[1:] if group else words
    parser = _overview(group)
    if rest and rest[0].startswith("-"):
        parser.parse_args(rest)
    if rest:
        parser.error(_unknown(words, group))
    parser.print_help()
    return 2


def _overview(group: str) -> argparse.ArgumentParser:
    """The parser that lists all commands, or those of a group."""
    names = _names(group)
    width = max(map(len, names))
    listing = "\n".join(f"  {name:{width}}  {COMMANDS[name][1]}" for name in names)
    program = f"flmm {group}".strip()
    parser = argparse.ArgumentParser(
        program,
        usage=f"{program} COMMAND ...",
        description=f"Ground phrases in pictures with a frozen multimodal model.\n\ncommands:\n{listing}",
        epilog=f"`{program} COMMAND --help` has the rest.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"flmm {__version__}")
    return parser


def _names(group: str) -> list[str]:
    """The commands of a group; all of them without one."""
    return [name for name in COMMANDS if not group or name.startswith(f"{group} ")]


def _unknown(words: list[str], group: str) -> str:
    """Say that there is no such command, and the nearest one, else all that there are."""
    names, two = _names(group), " ".join(words[:2])
    if group:
        ends = {name.removeprefix(f"{group} "): name for name in names}
        near = [ends[end] for end in difflib.get_close_matches(words[1], ends, 1)]
    else:  # the first word alone first: `groud data/shapes` is like `data shapes`, too
        near = difflib.get_close_matches(words[0], names, 1) or difflib.get_close_matches(two, names, 1)
    advice = f"did you mean `flmm {near[0]}`?" if near else f"there are: {', '.join(names)}"
    return f"no command {(two if group else words[0])!r}; {advice}"


if __name__ == "__main__":
    sys.exit(main())
