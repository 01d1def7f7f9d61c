"""Draws PNG samples: accelerate launch scripts/demo/multiprocess_infer_png.py CONFIG --checkpoint CKPT."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from flmm.api import GroundingModel
from flmm.config import png_dataset
from flmm.evaluation.run import Evaluation, arguments


def main() -> None:
    parser = arguments(__doc__, splits=("train", "val"), default=("val",))
    parser.set_defaults(limit=20)
    evaluation = Evaluation(parser.parse_args())
    accelerator, args = evaluation.accelerator, evaluation.args
    evaluation.folder.mkdir(parents=True, exist_ok=True)
    for split in args.split:
        dataset = png_dataset(evaluation.config, args.data_root, split)
        model = GroundingModel(evaluation.model, dataset.builder)
        mine = range(min(args.limit, len(dataset)))[accelerator.process_index :: accelerator.num_processes]
        for index in tqdm(mine, desc=f"png_{split}", disable=not accelerator.is_main_process):
            sample = dataset[index]
            picture = model.ground_sample(sample).draw(np.asarray(sample["gt_masks"], dtype=bool))
            picture.save(Path(evaluation.folder, f"{split}_{index:06d}.png"))
    accelerator.print(f"pictures in {evaluation.folder}")
    evaluation.close()


if __name__ == "__main__":
    main()
