"""Training data: PNG captions and the expressions of RefCOCO, RefCOCO+ and RefCOCOg, one image per sample.

A leaf says once how its LMM reads pictures and texts, for all data sets:

    train_dataloader.dataset.shared.sample_builder.update(tokenizer=..., image_processor=..., prompt=..., ...)
"""

from mmengine.dataset import DefaultSampler

from flmm.datasets.png import PNGDataset, concat_datasets, custom_collate_fn
from flmm.datasets.res import RESDataset
from flmm.datasets.sample import SampleBuilder

instruction = "Please give me a description of the image."  # what the LMM is asked, after the image token

png = dict(
    type=PNGDataset,
    json_file="data/coco/annotations/png_coco_train2017.json",
    panoptic_json_file="data/coco/annotations/panoptic_train2017.json",
    panoptic_png_path="data/coco/annotations/panoptic_train2017",
    local_path="data/coco/train2017",
)
refcoco = dict(
    type=RESDataset,
    data_root="data/coco/",
    ann_file="refcoco/instances.json",
    split_file="refcoco/refs(unc).p",
)
refcoco_plus = dict(refcoco, ann_file="refcoco+/instances.json", split_file="refcoco+/refs(unc).p")
refcocog = dict(refcoco, ann_file="refcocog/instances.json", split_file="refcocog/refs(umd).p")

train_dataloader = dict(
    batch_size=1,
    num_workers=4,  # each makes 40 samples or more a second and keeps two ready; 0 on the command line is fine
    pin_memory=True,  # with a GPU, a thread takes samples from the workers while the device computes
    dataset=dict(
        type=concat_datasets,
        datasets_list=[png, refcoco, refcoco_plus, refcocog],
        shared=dict(sample_builder=dict(type=SampleBuilder)),
    ),
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=custom_collate_fn),
)

del png, refcoco, refcoco_plus, refcocog  # the loader holds copies of them; edit those
