"""Training data: PNG captions and the expressions of RefCOCO, RefCOCO+ and RefCOCOg, one image per sample.

A leaf adds how its LMM reads a sample (`reader`: tokenizer, image_processor, prompt, prompt_template) to the PNG set
itself, and to the last step of each RefCOCO set's pipeline:

    [data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

A leaf that starts from another leaf says it again, as the sets hold copies of what it changes.
"""

from mmdet.datasets import RefCocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.dataset import DefaultSampler

from flmm.datasets.png import PNGDataset, concat_datasets, custom_collate_fn
from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG

png = dict(
    type=PNGDataset,
    json_file="data/coco/annotations/png_coco_train2017.json",
    panoptic_json_file="data/coco/annotations/panoptic_train2017.json",
    panoptic_png_path="data/coco/annotations/panoptic_train2017",
    local_path="data/coco/train2017",
)
refcoco = dict(
    type=RefCocoDataset,
    data_root="data/coco/",
    data_prefix=dict(img_path="train2014/"),
    ann_file="refcoco/instances.json",
    split_file="refcoco/refs(unc).p",
    pipeline=[
        dict(type=PILLoadImageFromFile),
        dict(type=LoadAnnotations, with_mask=True, with_bbox=False, with_seg=False, with_label=False),
        dict(type=RefCOCO2PNG),
    ],
)
refcoco_plus = dict(refcoco, ann_file="refcoco+/instances.json", split_file="refcoco+/refs(unc).p")
refcocog = dict(refcoco, ann_file="refcocog/instances.json", split_file="refcocog/refs(umd).p")

train_dataloader = dict(
    batch_size=1,
    num_workers=4,  # each makes 40 samples or more a second and keeps two ready; 0 on the command line is fine
    pin_memory=True,  # with a GPU, a thread takes samples from the workers while the device computes
    dataset=dict(type=concat_datasets, datasets_list=[png, refcoco, refcoco_plus, refcocog]),
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=custom_collate_fn),
)

del png, refcoco, refcoco_plus, refcocog  # the loader holds copies of them; edit those
