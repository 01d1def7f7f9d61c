# One file, no bases, no runner_type: how configs for the reference are written.
# ruff: noqa: C408
import torch
from mmdet.datasets import RefCocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.models import CrossEntropyLoss, DiceLoss
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.optim import AmpOptimWrapper, CosineAnnealingLR, LinearLR
from mmseg.models.backbones.unet import InterpConv
from torch.nn import GroupNorm
from torch.optim import AdamW
from transformers import AutoTokenizer
from xtuner.engine.runner import TrainLoop
from xtuner.utils.templates import PROMPT_TEMPLATE

from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.png import PNGDataset, concat_datasets, custom_collate_fn
from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG
from flmm.models.frozen_llava import FrozenLlavaSAM
from flmm.models.mask_head.mask_decoder import UNetHead
from flmm.models.mask_head.mask_refiner import SAMWrapper
from llava import CustomLlavaForConditionalGeneration

epochs = 8
warmup = 0.03 * epochs
lmm = "llava-hf/llava-1.5-7b-hf"
prompt_template = PROMPT_TEMPLATE.vicuna
prompt = "<image>\nPlease give me a description of the image."
tokenizer = dict(type=AutoTokenizer.from_pretrained, pretrained_model_name_or_path=lmm)
image_processor = dict(
    type=CustomLlavaImageProcessor.from_pretrained,
    pretrained_model_name_or_path="openai/clip-vit-large-patch14-336",
)
model = dict(
    type=FrozenLlavaSAM,
    model=dict(
        type=CustomLlavaForConditionalGeneration.from_pretrained,
        pretrained_model_name_or_path=lmm,
        dtype=torch.bfloat16,
        low_cpu_mem_usage=True,
    ),
    mask_head=dict(
        type=UNetHead,
        normalize_input=True,
        upsample_input=64,
        in_channels=1024,
        base_channels=64,
        num_stages=4,
        strides=(1, 1, 1, 1),
        enc_num_convs=(2, 2, 2, 2),
        dec_num_convs=(2, 2, 2),
        downsamples=(True, True, True),
        enc_dilations=(1, 1, 1, 1),
        dec_dilations=(1, 1, 1),
        norm_cfg=dict(type=GroupNorm, num_groups=1),
        upsample_cfg=dict(type=InterpConv),
    ),
    sam=dict(
        type=SAMWrapper,
        use_text=True,
        use_mask=True,
        multimask_output=False,
        model_name="vit_l",
        checkpoint="checkpoints/sam_vit_l_0b3195.pth",
    ),
    loss_mask=dict(type=CrossEntropyLoss, use_sigmoid=True, reduction="mean", loss_weight=1.0),
    loss_dice=dict(
        type=DiceLoss, use_sigmoid=True, activate=True, reduction="mean", naive_dice=True, eps=1.0, loss_weight=1.0
    ),
)
backend_args = dict(backend="petrel", path_mapping={"data/coco/train2014/": "cluster:s3://coco/train2014/"})
sample = dict(tokenizer=tokenizer, image_processor=image_processor, prompt=prompt, prompt_template=prompt_template)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        type=concat_datasets,
        datasets_list=[
            dict(
                type=PNGDataset,
                json_file="data/png_coco_train2017.json",
                panoptic_json_file="data/coco/annotations/panoptic_train2017.json",
                panoptic_png_path="data/coco/panoptic_train2017",
                local_path="data/coco/train2017",
                ceph_path="cluster:s3://coco/train2017",
                **sample,
            ),
            dict(
                type=RefCocoDataset,
                data_root="data/coco/",
                data_prefix=dict(img_path="train2014/"),
                ann_file="refcoco/instances.json",
                split_file="refcoco/refs(unc).p",
                pipeline=[
                    dict(type=PILLoadImageFromFile, backend_args=backend_args),
                    dict(type=LoadAnnotations, with_mask=True, with_bbox=False, with_seg=False, with_label=False),
                    dict(type=RefCOCO2PNG, **sample),
                ],
            ),
        ],
    ),
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=custom_collate_fn),
)
optim_wrapper = dict(
    type=AmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=1, error_if_nonfinite=False),
    accumulative_counts=1,
    loss_scale="dynamic",
    dtype="bfloat16",
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-5, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, eta_min=0.0, by_epoch=True, begin=warmup, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(type=TrainLoop, max_epochs=epochs)
default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, log_metric_by_epoch=False, interval=10),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=500, max_keep_ckpts=1),
    sampler_seed=dict(type=DistSamplerSeedHook),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
visualizer = None
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
log_processor = dict(by_epoch=False)
