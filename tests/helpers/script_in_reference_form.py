# ruff: noqa: C408
"""An evaluation script that uses F-LMM the way the reference's scripts do: mmdet first, plain parts, no loop of ours.

Run it in a user's folder: script_in_reference_form.py CONFIG CHECKPOINT. It prints one JSON line.
"""

import json
import sys

from mmdet.datasets import RefCocoDataset  # before flmm
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.evaluation import RefSegMetric
from mmdet.structures.mask import BitmapMasks

from flmm.datasets.png import PNGDataset
from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG
from flmm.utils import compute_mask_IoU

import torch  # isort: skip
import torch.nn.functional as F  # isort: skip
from accelerate import Accelerator  # isort: skip
from accelerate.utils import gather_object  # isort: skip
from mmengine.config import Config  # isort: skip
from xtuner.model.utils import guess_load_checkpoint  # isort: skip
from xtuner.registry import BUILDER  # isort: skip
from xtuner.utils.constants import DEFAULT_IMAGE_TOKEN  # isort: skip
from scripts.demo.utils import colors  # isort: skip

assert len(colors) == 133


def thresholded(logits, size):
    return F.interpolate(logits[None].float().sigmoid(), size=size, mode="bilinear")[0].cpu() > 0.5


def png(model, accelerator, reading):
    annotations = "data/coco/annotations"
    dataset = PNGDataset(
        json_file=f"{annotations}/png_coco_val2017.json",
        panoptic_json_file=f"{annotations}/panoptic_val2017.json",
        panoptic_png_path=f"{annotations}/panoptic_val2017",
        local_path="data/coco/val2017",
        **reading,
    )
    ious, kinds = [], []
    with accelerator.split_between_processes(list(range(len(dataset)))) as indices:
        for index in indices:
            sample = dataset[index]
            with torch.no_grad():
                logits = model.predict(sample)
            truth = sample["gt_masks"].float()
            masks = thresholded(logits, truth.shape[-2:]).float()
            ious += [compute_mask_IoU(masks.flatten(1), truth.flatten(1))[-1]]
            kinds += [(info["isthing"], info["plural"]) for info in sample["mask_infos"]]
    ious, kinds = gather_object(ious), gather_object(kinds)
    return {"phrases": len(kinds), "mean": 100 * torch.cat(ious).mean().item()}


def refcoco(model, accelerator, reading):
    steps = [
        dict(type=PILLoadImageFromFile, backend_args=None),
        dict(type=LoadAnnotations, with_mask=True, with_bbox=False, with_seg=False, with_label=False),
        dict(type=RefCOCO2PNG, concat=True, **reading),
    ]
    dataset = RefCocoDataset(
        data_root="data/coco/",
        data_prefix=dict(img_path="train2014/"),
        ann_file="refcoco/instances.json",
        split_file="refcoco/refs(unc).p",
        split="val",
        text_mode="select_first",
        pipeline=steps,
    )
    results = []
    with accelerator.split_between_processes(list(range(len(dataset)))) as indices:
        for index in indices:
            sample = dataset[index]
            with torch.no_grad():
                logits = model.predict(sample)
            truth = sample["gt_masks"].numpy() > 0
            found = dict(masks=thresholded(logits, truth.shape[-2:]))
            results.append(dict(pred_instances=found, gt_masks=BitmapMasks(truth, *truth.shape[-2:])))
    metric = RefSegMetric(metric=["cIoU", "mIoU"])
    metric.process(data_batch={}, data_samples=gather_object(results))
    return {key: float(value) for key, value in metric.compute_metrics(metric.results).items()}


def main():
    accelerator, cfg = Accelerator(), Config.fromfile(sys.argv[1])
    model = BUILDER.build(cfg.model)
    missing, unexpected = model.load_state_dict(guess_load_checkpoint(sys.argv[2]), strict=False)
    assert unexpected == []
    assert not any(name.startswith(("mask_head", "text_", "sam.model.mask_decoder")) for name in missing)
    model = model.to(device=accelerator.device)
    model.eval()
    reading = dict(
        tokenizer=cfg.tokenizer,
        image_processor=cfg.image_processor,
        prompt_template=cfg.prompt_template,
        prompt=cfg.get("prompt", None),
        image2tensor=cfg.get("image2tensor", True),
        add_image_token=cfg.get("add_image_token", False),
        image_token=cfg.get("image_token", DEFAULT_IMAGE_TOKEN),
    )
    print(json.dumps({"png": png(model, accelerator, reading), "refcoco": refcoco(model, accelerator, reading)}))


if __name__ == "__main__":
    main()
