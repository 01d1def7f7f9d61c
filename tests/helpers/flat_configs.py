"""Configs in the form that the reference publishes: one flat file per LMM, without bases and without `runner_type`.

`flat_config` writes the whole file. What such files hold and F-LMM does not need stays in: 2048 channels everywhere,
MMEngine's own hooks, paths on a petrel cluster, keywords of other tokenizers.
"""

from dataclasses import dataclass

LLAVA_IMPORTS = "from llava.modeling_llava import CustomLlavaForConditionalGeneration"
NEXT_IMPORTS = "from llava.modeling_llava_next import CustomLlavaNextForConditionalGeneration"
DEEPSEEK_IMPORTS = "from deepseek_vl.models import MultiModalityCausalLM, VLMImageProcessor"
WEIGHTS = "pretrained_model_name_or_path=lmm_name, torch_dtype=torch.bfloat16, low_cpu_mem_usage=True"
NAMED = "pretrained_model_name_or_path=lmm_name"
LLM_WORDS = f"{NAMED}, subfolder='llm', trust_remote_code=True, encode_special_tokens=True"
DEEPSEEK_TEMPLATE = r"dict(SYSTEM='', INSTRUCTION='User: {input}\n\nAssistant:', SEP='\n')"
HPT_PARTS = """
    llm=dict(type=AutoModelForCausalLM.from_pretrained, pretrained_model_name_or_path=lmm_name, subfolder='llm',
             torch_dtype=torch.bfloat16, low_cpu_mem_usage=True, trust_remote_code=True, use_safetensors=True),
    visual_encoder=dict(type={tower}.from_pretrained, pretrained_model_name_or_path=lmm_name,
                        subfolder='visual_encoder', torch_dtype=torch.bfloat16),
    projector=dict(type=AutoModel.from_pretrained, pretrained_model_name_or_path=lmm_name, subfolder='projector',
                   torch_dtype=torch.bfloat16, trust_remote_code=True, use_safetensors=True),
    image_size=image_size,"""


@dataclass(frozen=True)
class Flat:
    """What differs between the files.

    Attributes:
        lmm_name: Repository on the hub.
        model_class: Class of the whole model, as `module:name`.
        parts: Keywords of the model that build its LMM.
        template: Prompt template.
        imports: Further imports.
        settings: Further variables.
        tokenizer: Keywords of the tokenizer.
        processor: Image processor.
        reads: Further keywords of both kinds of data sets.
        prompt: The instruction.
        png: What the PNG set is given of it; LLaVA-NeXT's configs leave it to the default.
    """

    lmm_name: str
    model_class: str
    parts: str
    template: str
    processor: str
    imports: str = ""
    settings: str = ""
    tokenizer: str = NAMED
    reads: str = ""
    prompt: str = r"'<image>\nPlease give me a description of the image.'"
    png: str = ", prompt=prompt"


def mgm(lmm_name: str, mgm_class: str, template: str) -> Flat:
    """MGM with its two towers."""
    towers = "mm_vision_tower='openai/clip-vit-large-patch14-336', "
    towers += "mm_vision_tower_aux='laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup'"
    return Flat(
        lmm_name,
        "flmm.models.frozen_mgm:FrozenMGMSAM",
        f"model=dict(type={mgm_class}.from_pretrained, {WEIGHTS}, {towers}),",
        template,
        "dict(type=Pad2Square)",
        f"from mgm.model import {mgm_class}\nfrom flmm.datasets.pad2square_processor import Pad2Square",
        "image2tensor = False\nadd_image_token = True",
        reads=", image2tensor=image2tensor, add_image_token=add_image_token",
    )


def deepseek(lmm_name: str) -> Flat:
    """DeepSeek-VL, whose prompt holds a placeholder for each image token."""
    return Flat(
        lmm_name,
        "flmm.models.frozen_deepseek_vl:FrozenDeepseekVLSAM",
        f"model=dict(type=MultiModalityCausalLM.from_pretrained, {WEIGHTS}), tokenizer=tokenizer,",
        DEEPSEEK_TEMPLATE,
        f"dict(type=VLMImageProcessor.from_pretrained, {NAMED})",
        DEEPSEEK_IMPORTS,
        "image_token = '<image_placeholder>'",
        reads=", image_token=image_token",
        prompt="'<image_placeholder>' * 576 + 'Please give me a description of the image.'",
    )


def llava_next(lmm_name: str, template: str) -> Flat:
    """LLaVA-NeXT."""
    return Flat(
        lmm_name,
        "flmm.models.frozen_llava_next:FrozenLlavaNextSAM",
        f"model=dict(type=CustomLlavaNextForConditionalGeneration.from_pretrained, {WEIGHTS}),",
        template,
        f"dict(type=CustomLlavaNextImageProcessor.from_pretrained, {NAMED})",
        f"{NEXT_IMPORTS}\nfrom flmm.datasets.llava_next_processors import CustomLlavaNextImageProcessor",
        png="",
    )


def hpt(lmm_name: str, template: str, tower: str, processor: str, size: str, side: int) -> Flat:
    """HPT, whose projector is code of its repository."""
    source = "transformers" if tower.startswith("CLIP") else "hpt.modeling_siglip"
    return Flat(
        lmm_name,
        "flmm.models.frozen_hpt:FrozenHPTSAM",
        HPT_PARTS.format(tower=tower),
        template,
        f"dict(type={processor}.from_pretrained, {NAMED}, subfolder='visual_encoder', {size})",
        f"from transformers import AutoModel, AutoModelForCausalLM\nfrom {source} import {tower}\n"
        f"from flmm.datasets.hpt_processors import {processor}",
        f"image_size = {side}\nadd_image_token = True",
        LLM_WORDS,
        ", add_image_token=add_image_token",
    )


SQUARE = "dict(height=image_size, width=image_size)"
FLAT = {
    "llava15": Flat(
        "llava-hf/llava-1.5-7b-hf",
        "flmm.models.frozen_llava:FrozenLlavaSAM",
        f"model=dict(type=CustomLlavaForConditionalGeneration.from_pretrained, {WEIGHTS}),",
        "PROMPT_TEMPLATE.vicuna",
        "dict(type=CustomLlavaImageProcessor.from_pretrained, "
        "pretrained_model_name_or_path='openai/clip-vit-large-patch14-336')",
        f"{LLAVA_IMPORTS}\nfrom flmm.datasets.llava_processors import CustomLlavaImageProcessor",
    ),
    "llava_next_vicuna": llava_next("llava-hf/llava-v1.6-vicuna-7b-hf", "PROMPT_TEMPLATE.vicuna"),
    "llava_next": llava_next("llava-hf/llava-v1.6-mistral-7b-hf", "PROMPT_TEMPLATE.mistral"),
    "deepseek_1b": deepseek("deepseek-ai/deepseek-vl-1.3b-chat"),
    "deepseek_7b": deepseek("deepseek-ai/deepseek-vl-7b-chat"),
    "mgm_gemma": mgm("YanweiLi/MGM-2B", "MGMGemmaForCausalLM", "PROMPT_TEMPLATE.gemma"),
    "mgm_llama": mgm("YanweiLi/MGM-7B", "MGMLlamaForCausalLM", "PROMPT_TEMPLATE.vicuna"),
    "mgm_hd": mgm("YanweiLi/MGM-7B-HD", "MGMLlamaForCausalLM", "PROMPT_TEMPLATE.vicuna"),
    "hpt_clip": hpt(
        "HyperGAI/HPT",
        "PROMPT_TEMPLATE.internlm2_chat",
        "CLIPVisionModel",
        "CustomHPTImageProcessor",
        f"size=dict(shortest_edge=image_size), crop_size={SQUARE}",
        392,
    ),
    "hpt_siglip": hpt(
        "HyperGAI/HPT1_5-Air-Llama-3-8B-Instruct-multimodal",
        "PROMPT_TEMPLATE.llama3_chat",
        "SiglipVisionModel",
        "CustomHPT15ImageProcessor",
        f"size={SQUARE}",
        448,
    ),
}

TEXT = """\
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

from flmm.datasets.png import PNGDataset, concat_datasets, custom_collate_fn
from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG
from flmm.models.mask_head.mask_decoder import UNetHead
from flmm.models.mask_head.mask_refiner import SAMWrapper
from {module} import {name}
{imports}

batch_size = 1
accumulative_counts = 1
dataloader_num_workers = 0
max_epochs = 8
warmup_ratio = 0.03
optim_type = AdamW
save_steps = 500
save_total_limit = 1

prompt_template = {template}
prompt = {prompt}
lmm_name = '{lmm_name}'
{settings}
unet = dict(
    type=UNetHead, normalize_input=True, upsample_input=64, in_channels=2048, base_channels=64, num_stages=4,
    strides=(1, 1, 1, 1), enc_num_convs=(2, 2, 2, 2), dec_num_convs=(2, 2, 2), downsamples=(True, True, True),
    enc_dilations=(1, 1, 1, 1), dec_dilations=(1, 1, 1), norm_cfg=dict(type=GroupNorm, num_groups=1),
    upsample_cfg=dict(type=InterpConv))
loss_mask = dict(type=CrossEntropyLoss, use_sigmoid=True, reduction='mean', loss_weight=1.0)
loss_dice = dict(type=DiceLoss, use_sigmoid=True, activate=True, reduction='mean', naive_dice=True, eps=1.0,
                 loss_weight=1.0)
tokenizer = dict(type=AutoTokenizer.from_pretrained, {tokenizer})
image_processor = {processor}
model = dict(
    type={name},
    sam=dict(type=SAMWrapper, use_text=True, use_mask=True, multimask_output=False, model_name='vit_l',
             checkpoint='checkpoints/sam_vit_l_0b3195.pth'),
    mask_head=unet, loss_mask=loss_mask, loss_dice=loss_dice,
    {parts}
)

cluster = 'cluster:s3://coco/'
backend_args = dict(backend='petrel', path_mapping=dict({{'data/coco/train2014/': cluster + 'train2014/'}}))
refcoco_pipeline = [
    dict(type=PILLoadImageFromFile, backend_args=backend_args),
    dict(type=LoadAnnotations, with_mask=True, with_bbox=False, with_seg=False, with_label=False),
    dict(type=RefCOCO2PNG, image_processor=image_processor, tokenizer=tokenizer, prompt=prompt,
         prompt_template=prompt_template{reads}),
]
refcoco = dict(type=RefCocoDataset, data_root='data/coco/', data_prefix=dict(img_path='train2014/'),
               pipeline=refcoco_pipeline)
datasets_list = [
    dict(type=PNGDataset, json_file='data/coco/annotations/png_coco_train2017.json',
         panoptic_json_file='data/coco/annotations/panoptic_train2017.json',
         panoptic_png_path='data/coco/annotations/panoptic_train2017', tokenizer=tokenizer,
         image_processor=image_processor, prompt_template=prompt_template, local_path='data/coco/train2017',
         ceph_path=cluster + 'train2017'{png}{reads}),
    dict(ann_file='refcoco/instances.json', split_file='refcoco/refs(unc).p', **refcoco),
    dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p', **refcoco),
    dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(umd).p', **refcoco),
]
train_dataloader = dict(
    batch_size=batch_size, num_workers=dataloader_num_workers,
    dataset=dict(type=concat_datasets, datasets_list=datasets_list),
    sampler=dict(type=DefaultSampler, shuffle=True), collate_fn=dict(type=custom_collate_fn))

optim_wrapper = dict(
    type=AmpOptimWrapper, optimizer=dict(type=optim_type, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=1, error_if_nonfinite=False), accumulative_counts=accumulative_counts,
    loss_scale='dynamic', dtype='bfloat16')
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-5, by_epoch=True, begin=0, end=warmup_ratio * max_epochs,
         convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, eta_min=0.0, by_epoch=True, begin=warmup_ratio * max_epochs, end=max_epochs,
         convert_to_iter_based=True)]
train_cfg = dict(type=TrainLoop, max_epochs=max_epochs)

default_hooks = dict(
    timer=dict(type=IterTimerHook), logger=dict(type=LoggerHook, log_metric_by_epoch=False, interval=10),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=save_steps, max_keep_ckpts=save_total_limit),
    sampler_seed=dict(type=DistSamplerSeedHook))
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
               dist_cfg=dict(backend='nccl'))
visualizer = None
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
log_processor = dict(by_epoch=False)
"""


def flat_config(key: str) -> str:
    """The config file of a key of `FLAT`, as text."""
    flat = FLAT[key]
    module, name = flat.model_class.split(":")
    return TEXT.format(**vars(flat), module=module, name=name)
