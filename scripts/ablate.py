"""Trains and evaluates rows of the paper's ablations over a config, and prints the table: ablate.py ROW ..."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from scipy.stats import spearmanr

from flmm.checkpoint import part_name, publish
from flmm.config import TINY_CONFIG, read_config
from flmm.evaluation.tables import print_table

FOLDER = Path("configs/ablations")
ROWS = (
    "unet_only",
    "sam_mask",
    "sam_mask_box",
    "sam_mask_box_text",
    "merge_max",
    "one_attention_layer",
    "one_text_layer",
    "single_conv",
    "sam_vit_b",
    "sam_vit_h",
    "mobile_sam",
)
PAPER = {"unet_only": 50.8, "sam_mask": 63.4, "sam_mask_box": 63.7, "sam_mask_box_text": 64.9}
_BASE = re.compile(r"from \.\.\S+ import \*")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("rows", nargs="*", default=list(PAPER), help=f"of {', '.join(ROWS)}")
    add("--base", default=TINY_CONFIG, help="config that the rows change")
    add("--data-root", default="data/shapes", help="folder of the evaluation's data")
    add("--limit", type=int, help="evaluate only the first captions")
    add("--output", default="work_dirs/ablations", help="folder of everything")
    add(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="for every training, e.g. train_cfg.max_iters=100",
    )
    args = parser.parse_args()
    try:
        results = {row: figure(row, args) for row in args.rows}
    except (ValueError, FileNotFoundError) as error:
        print(f"ablate.py: {error}", file=sys.stderr)
        return 1
    show(args, results)
    return 0


def figure(row: str, args: argparse.Namespace) -> float:
    """PNG's average recall of a row, in percent; what is trained or evaluated already is used."""
    if row not in ROWS:
        raise ValueError(f"no row {row!r}; there are {', '.join(ROWS)}")
    folder = Path(args.output, row)
    config = write_config(row, args.base, Path(args.output, "configs"))  # a training writes a config into its folder
    checkpoint = trained(config, folder, args.cfg_options)
    evaluate = ["scripts/multiprocess_eval_png.py", config, "--checkpoint", checkpoint, "--data-root", args.data_root]
    limit = ["--limit", args.limit] if args.limit else []
    call(evaluate + ["--output", folder / "eval", *limit])
    metrics = json.loads((folder / "eval/png.json").read_text())["splits"]["val"]
    return metrics.get("refined", metrics["coarse"])["all"]["average_recall"]


def write_config(row: str, base: str, folder: Path) -> Path:
    """The row's config over another base: the same lines, another import."""
    if not Path(base).is_file():
        raise FileNotFoundError(f"no config {base}: --base is one of configs/*/")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f"{row}.py"
    *steps, name = Path(os.path.relpath(Path(base).resolve(), path.parent)).with_suffix("").parts
    ups = steps.count("..")
    if not all(part.isidentifier() for part in (*steps[ups:], name)):
        raise ValueError(f"{base} cannot be imported from {path}: use an --output inside the repository")
    line = f"from {'.' * (ups + 1)}{'.'.join([*steps[ups:], name])} import *"
    text = _BASE.sub(line, Path(FOLDER, f"{row}.py").read_text())
    part = part_name(path)
    part.write_text(text)
    publish(part, path)
    sam = read_config(path).model.get("sam")
    if sam and not Path(sam["checkpoint"]).is_file():
        raise FileNotFoundError(
            f"row {row} needs {sam['checkpoint']}: fetch it (checkpoints/README.md), or leave it out"
        )
    return path


def trained(config: Path, folder: Path, options: list[str]) -> Path:
    """The last checkpoint of the row's training, which is run when it is not finished."""
    done = folder / "last_checkpoint_of_ablation"
    if not done.is_file():
        changes = ["--cfg-options", *options] if options else []
        resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
        call(["-m", "flmm.cli.main", "train", config, "--work-dir", folder, *resume, *changes])
        done.write_text((folder / "last_checkpoint").read_text())
    return Path(done.read_text().strip())


def call(words: list) -> None:
    """Runs a Python command; a failure ends everything."""
    if subprocess.run([sys.executable, *map(str, words)], env={**os.environ, "PYTHONPATH": os.getcwd()}).returncode:
        raise ValueError(f"failed: python {' '.join(map(str, words))}")


def show(args: argparse.Namespace, results: dict[str, float]) -> None:
    rows = [[row, value, PAPER.get(row)] for row, value in results.items()]
    print_table(f"{args.base}: PNG average recall, percent", ("row", "here", "paper"), rows)
    both = [(value, PAPER[row]) for row, value in results.items() if row in PAPER]
    if len(both) > 2:
        same = sorted(both) == sorted(both, key=lambda pair: pair[1])
        rank = spearmanr(*zip(*both, strict=True)).statistic
        print(f"order of the rows: {'as in the paper' if same else 'another one'} (rank correlation {rank:.2f})")


if __name__ == "__main__":
    sys.exit(main())
