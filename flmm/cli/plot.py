"""Draws figures: which heads ground, learned layer weights, IoU by length and size, worst phrases, two runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("refined", "coarse")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm plot`."""
    figures = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")

    def add(name: str, draw: Callable[[argparse.Namespace], None], text: str) -> Any:
        one = figures.add_parser(name, help=text, description=text)
        one.add_argument("--out", default=f"{name}.png", help="file to write, .png, .svg or .pdf [%(default)s]")
        one.set_defaults(draw=draw)
        return one.add_argument

    add_of_config(add)
    add_of_records(add)


def add_of_config(add: Callable[..., Any]) -> None:
    """The figures of a config."""
    heads = add("heads", draw_heads, "IoU of the attention map of each layer and head with the true masks")
    heads("config", help="config file of the model; its head is not used")
    heads("--data-root", default="data/coco", help="folder laid out like data/coco, e.g. data/shapes [%(default)s]")
    heads("--split", default="val", choices=("train", "val"), help="of Panoptic Narrative Grounding [%(default)s]")
    heads("--limit", type=int, default=50, help="captions that are read [%(default)s]")
    heads("--device", help="cpu, cuda, cuda:1 [cuda if there is one]")
    layers = add("layers", draw_layers, "learned weights of the layers in SAM's text prompt")
    layers("config", help="config file of the model")
    layers("--checkpoint", help="trained head [the one that the config names, or that of the tiny model]")


def add_of_records(add: Callable[..., Any]) -> None:
    """The figures of what an evaluation has written."""
    folder = "records of an evaluation: OUTPUT/<split>.<protocol>"
    lengths = add("lengths", draw_lengths, "histograms of the IoU by length of phrase and size of mask")
    lengths("records", help=folder)
    worst = add("worst", draw_worst, "contact sheet of the phrases with the lowest and the highest IoU")
    worst("records", help=folder)
    worst("--number", type=int, default=9, help="phrases of each [%(default)s]")
    worst("--columns", type=int, default=3, help="pictures in a row [%(default)s]")
    compare = add("compare", draw_compare, "two runs on the same pictures: each phrase, groups, what changed most")
    compare("records", help=folder)
    compare("others", help="records of another run on the same pictures")
    compare("--pictures", help="file for the phrases that changed most, as both runs found them")
    compare("--number", type=int, default=6, help="phrases on it that lost, and that gained [%(default)s]")
    for one in (worst, compare):
        one("--images", help="folder of the pictures [the one that was evaluated]")
        one("--masks", choices=KINDS, default="refined", help="[%(default)s]")


def run(args: argparse.Namespace) -> int:
    """Draws a figure.

    Raises:
        FileNotFoundError: When a config, checkpoint, record or picture is missing.
        ValueError: When one of them cannot be used, or the figure cannot be written.
    """
    for name in ("number", "columns", "limit"):
        if getattr(args, name, 1) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: give at least 1")
    args.draw(args)
    return 0


def draw_heads(args: argparse.Namespace) -> None:
    """Measures the attention maps of a config's LMM, writes the heat maps, and prints the best heads."""
    from flmm.api import usable_device
    from flmm.config import build_model, png_dataset, png_files, read_config
    from flmm.console import progress
    from flmm.evaluation.plots.figures import figure_path
    from flmm.evaluation.plots.heads import draw_heads, head_scores
    from flmm.evaluation.tables import print_table

    figure_path(args.out)
    config = read_config(args.config)
    png_files(args.data_root, args.split)  # what is missing is said before the model is loaded
    config.model = {**config.model, "sam": None, "pretrained": None, "cache": None}  # only the LMM is read
    model = build_model(config, device=usable_device(args.device))
    dataset = png_dataset(config, args.data_root, args.split)
    count = min(args.limit, len(dataset))
    samples = (dataset[index] for index in range(count))
    scores = head_scores(model, progress(samples, total=count, desc="captions", unit="caption"))
    write(draw_heads(scores, f"{Path(args.config).stem}\n{args.data_root}, {args.split}, {count} captions"), args.out)
    header = ("merge", "view", "layer", "head", "mean IoU")
    print_table(f"Best of {sum(map(len, scores.iou['mean']))} layers", header, scores.best())


def draw_layers(args: argparse.Namespace) -> None:
    """Writes the learned layer weights."""
    from flmm.config import read_config
    from flmm.evaluation.plots.layers import draw_layers, layer_weights

    config = read_config(args.config)
    checkpoint = args.checkpoint or trained_head(args.config, config)
    write(
        draw_layers(
            *layer_weights(config, checkpoint), f"weights of the layers in SAM's text prompt\n{Path(checkpoint).stem}"
        ),
        args.out,
    )


def trained_head(path: str, config: Any) -> str:
    """The checkpoint that belongs to a config.

    Raises:
        ValueError: When it names none.
    """
    from flmm.config import TINY_CHECKPOINT, TINY_CONFIG

    found = TINY_CHECKPOINT if Path(path).name == Path(TINY_CONFIG).name else config.model.get("pretrained")
    if not found:
        raise ValueError(f"{path} names no trained head: pass --checkpoint")
    return found


def draw_lengths(args: argparse.Namespace) -> None:
    """Writes histograms of the IoU."""
    from flmm.evaluation.plots.lengths import draw_lengths
    from flmm.evaluation.records import read_records

    write(draw_lengths(read_records(args.records), Path(args.records).name), args.out)


def draw_worst(args: argparse.Namespace) -> None:
    """Writes the contact sheet."""
    from flmm.evaluation.drawings import save_picture
    from flmm.evaluation.plots.sheet import draw_worst
    from flmm.outputs import writable

    out = writable(args.out)
    save_picture(draw_worst(args.records, args.images, args.number, args.masks, args.columns), out)
    print(f"written: {out}")


def draw_compare(args: argparse.Namespace) -> None:
    """Writes the comparison, and the phrases that changed most where they are asked for."""
    from flmm.evaluation.drawings import save_picture
    from flmm.evaluation.plots.compare import draw_changes, draw_comparison, run_names
    from flmm.evaluation.records import read_records
    from flmm.outputs import writable

    folders = (args.records, args.others)
    names = run_names(folders)
    pictures = args.pictures and writable(args.pictures)
    runs = [read_records(folder) for folder in folders]
    write(draw_comparison(runs[0], runs[1], names, args.masks), args.out)
    if pictures:
        save_picture(draw_changes(folders, names, args.images, args.number, args.masks), pictures)
        print(f"written: {pictures}")


def write(figure: Figure, out: str) -> None:
    """Writes a figure and says so."""
    from flmm.evaluation.plots.figures import save_figure

    print(f"written: {save_figure(figure, out)}")
