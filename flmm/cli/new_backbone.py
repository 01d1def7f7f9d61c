"""Write the config of an image-text model of transformers by asking its config and processor, and check its grid."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

END = "unet_sam_l_refcoco_png.py"
LINE = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("repository", help="name on the hub, or a folder with config, processor and tokenizer")
    parser.add_argument("--out", type=Path, help=f"the config to write [configs/hf/frozen_NAME_{END}]")
    parser.add_argument("--image-token", help="what stands for a picture in a prompt [what the processor says]")


def run(args: argparse.Namespace) -> int:
    """Writes the config; 1 when no grid rule fits, and then nothing is written.

    Raises:
        FileExistsError: When there is such a config.
        FileNotFoundError: When the folder of the config has no `_base_` beside it, or the model cannot be had.
    """
    from flmm.checkpoint import part_name, publish
    from flmm.training.named_files import check_weights

    out = args.out or Path("configs/hf", f"frozen_{short_name(args.repository)}_{END}")
    if out.exists():
        raise FileExistsError(f"{out} exists: remove it, or name another file with --out")
    if not (out.parent.parent / "_base_" / "image_text.py").is_file():
        raise FileNotFoundError(
            f"{out.parent.parent}/_base_/image_text.py is missing: name a file in a folder of configs/"
        )
    check_weights(args.repository)
    from flmm.models.new_backbone import asked

    found = asked(args.repository, args.image_token)
    for rule, why in found.search.refused.items():
        print(f"no   {rule}: {why[:LINE]}")
    if found.search.rule is None:
        print("no grid rule fits: see docs/add_a_backbone.md for what a processor may do, or write an adapter")
        return 1
    views = " and ".join(f"{rows} x {columns}" for rows, columns in found.search.views)
    print(f"ok   {found.search.rule}: {views} for a picture of 640 x 416, lowest score {found.search.lowest:.2f}")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = part_name(out)
    part.write_text(leaf(args.repository, found))
    publish(part, out)
    print(f"wrote {out}")
    for line in found.unknown:
        print(f"not known: {line}")
    return 0


def short_name(repository: str) -> str:
    """The end of a repository's name, as a file name."""
    return re.sub(r"[^a-z0-9]+", "_", Path(repository).name.lower()).strip("_")


def leaf(repository: str, found: Any) -> str:
    """Text of a config."""
    rule = found.search.rule
    layout = rule.processor.get("layout")
    imports = [f"from flmm.datasets.hf_processors import {layout.__name__}"] if layout else []
    imports += [f"from flmm.models.grids import {rule.grid.__name__}"]
    given = {key: value for key, value in rule.processor.items() if key not in ("layout", "square", "trim")}
    processor = [f"layout={layout.__name__}"] if layout else []
    processor += [f"{key}={rule.processor[key]!r}" for key in ("square", "trim") if key in rule.processor]
    processor += [f"call={written(given)}"] if given else []
    grid = ", ".join([f"type={rule.grid.__name__}", *(f"{key}={value!r}" for key, value in rule.grid_args.items())])
    head = [f"{key}={value!r}" for key, value in rule.head.items()]
    shape = f"{found.layers} layers with attention x {found.heads} heads, {found.views} view{'s' * (found.views > 1)}"
    return "\n".join(
        [
            f'"""{Path(repository).name}: {shape}."""',
            "",
            "from mmengine.config import read_base",
            "",
            *imports,
            "",
            "with read_base():",
            "    from .._base_.image_text import *",
            "",
            f"lmm = dict(pretrained_model_name_or_path={repository!r})",
            f"image_token = {found.image_token!r}",
            "builder = train_dataloader.dataset.shared.sample_builder",
            "[part.update(lmm) for part in (builder.tokenizer, builder.image_processor, model.model)]",
            f"builder.image_processor.update({', '.join(['image_token=image_token', *processor])})",
            "builder.update(",
            "    image_token=image_token,",
            f"    prompt={found.picture!r} + instruction,",
            f"    prompt_template={written(found.template)},",
            ")",
            f"model.update({', '.join([f'grid=dict({grid})', *head])})",
            "",
        ]
    )


def written(values: dict[str, Any]) -> str:
    """A dict as configs write it."""
    parts = [f"{key}={written(value) if isinstance(value, dict) else repr(value)}" for key, value in values.items()]
    return f"dict({', '.join(parts)})"
