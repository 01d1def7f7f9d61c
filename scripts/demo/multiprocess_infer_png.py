"""Draws PNG samples: accelerate launch scripts/demo/multiprocess_infer_png.py CONFIG --checkpoint CKPT.

A sample gets a file of its own, `<split>_<index>.png`: several captions of a picture do not overwrite one another.
Its panels show the mean attention, the attention cut in two clusters (the one with more attention, chosen without the
ground truth), the coarse and the refined mask and the ground truth.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from flmm.api import Grounding, GroundingModel
from flmm.cli.script import run_script
from flmm.config import png_dataset, png_files
from flmm.console import progress
from flmm.evaluation.clusters import attention_cluster
from flmm.evaluation.run import Evaluation, arguments
from flmm.models.functional import crop_to_picture


def main() -> None:
    parser = arguments(__doc__, splits=("train", "val"), default=("val",))
    parser.set_defaults(limit=20)
    evaluation = Evaluation(parser.parse_args(), png_files)
    accelerator, args = evaluation.accelerator, evaluation.args
    evaluation.folder.mkdir(parents=True, exist_ok=True)
    for split in args.split:
        dataset = png_dataset(evaluation.config, args.data_root, split)
        model = GroundingModel(evaluation.model, dataset.builder)
        mine = range(min(args.limit, len(dataset)))[accelerator.process_index :: accelerator.num_processes]
        for index in progress(mine, desc=f"png_{split}", disable=not accelerator.is_main_process):
            sample = dataset[index]
            grounding = model.ground_sample(sample)
            targets = np.asarray(sample["gt_masks"], dtype=bool)
            grounding.draw(targets, clusters(model, grounding, sample)).save(
                Path(evaluation.folder, f"{split}_{index:06d}.png")
            )
    accelerator.print(f"pictures in {evaluation.folder}")
    evaluation.close()


def clusters(model: GroundingModel, grounding: Grounding, sample: dict[str, Any]) -> np.ndarray:
    """[M, h, w] bool: for each phrase the cluster of cells with more attention, without padding."""
    maps = torch.from_numpy(grounding.attention_maps)
    if model.model.backbone.views_include_padding:
        maps = torch.stack([crop_to_picture(own, sample["meta_data"]) for own in maps])
    return np.stack([attention_cluster(own) for own in maps.numpy()])


if __name__ == "__main__":
    run_script(main)
