"""The `flmm` command. A part is imported when it is asked for, so `flmm --help` is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from flmm import __version__
from flmm.cli.script import MENDABLE

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
        print(f"flmm {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"flmm {name}: stopped", file=sys.stderr)
        return 130


def _no_command(words: list[str]) -> int:
    """Help, version, or the error for a command that there is not."""
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "flmm",
        usage="flmm COMMAND ...",
        description=f"Ground phrases in pictures with a frozen multimodal model.\n\ncommands:\n{listing}",
        epilog="`flmm COMMAND --help` has the rest.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"flmm {__version__}")
    if words and words[0].startswith("-"):
        parser.parse_args(words)
    if words:
        parser.error(f"no command {' '.join(words[:2])!r}; there are: {', '.join(COMMANDS)}")
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
