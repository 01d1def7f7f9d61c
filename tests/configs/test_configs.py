"""Every config parses and means what it should; configs written for the reference still train."""

from pathlib import Path

import pytest
from mmengine.config import Config

from flmm.config import sample_settings
from flmm.training.check_config import check_config

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
LEAVES = sorted(path for path in (ROOT / "configs").glob("*/*.py") if path.parent.name != "_base_")
LLAVA = ROOT / "configs/llava/frozen_llava_1_5_vicuna_7b_unet_sam_l_refcoco_png.py"
TINY = ROOT / "configs/tiny/frozen_tiny_llava_unet_sam_nano_shapes.py"


def flat(node, place=""):
    """Every setting of a config by its place."""
    if isinstance(node, dict):
        children = [(f"{place}.{key}".lstrip("."), value) for key, value in dict.items(node)]
    elif isinstance(node, (list, tuple)):
        children = [(f"{place}[{index}]", value) for index, value in enumerate(node)]
    else:
        return {place: node}
    return {key: value for child in children for key, value in flat(child[1], child[0]).items()}


def settings(path):
    """Every setting of a config file; classes as their import path."""
    return flat(Config.fromfile(path).to_dict())


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_leaves_are_short_and_resolve(path):
    assert len([line for line in path.read_text().splitlines() if line]) <= 35
    config = Config.fromfile(path)
    check_config(config)  # imports every class, and finds keys that nobody reads
    assert {"tokenizer", "image_processor", "prompt", "prompt_template"} <= set(sample_settings(config))


def test_llava_is_the_recipe():
    found = settings(LLAVA)
    png, refcoco, refcoco_plus, refcocog = (f"train_dataloader.dataset.datasets_list[{i}]" for i in range(4))
    builder = "train_dataloader.dataset.shared.sample_builder"
    expected = {
        "optim_wrapper.type": "mmengine.optim.AmpOptimWrapper",
        "optim_wrapper.dtype": "bfloat16",
        "optim_wrapper.optimizer.type": "torch.optim.AdamW",
        "optim_wrapper.optimizer.lr": 1e-4,
        "optim_wrapper.optimizer.betas[0]": 0.9,
        "optim_wrapper.optimizer.betas[1]": 0.999,
        "optim_wrapper.optimizer.weight_decay": 0.01,
        "optim_wrapper.clip_grad.max_norm": 1.0,
        "param_scheduler[0].type": "mmengine.optim.LinearLR",
        "param_scheduler[0].start_factor": 1e-5,
        "param_scheduler[0].begin": 0,
        "param_scheduler[0].end": 0.24,
        "param_scheduler[0].convert_to_iter_based": True,
        "param_scheduler[1].type": "mmengine.optim.CosineAnnealingLR",
        "param_scheduler[1].eta_min": 0.0,
        "param_scheduler[1].begin": 0.24,
        "param_scheduler[1].end": 8,
        "train_cfg.max_epochs": 8,
        "train_dataloader.batch_size": 1,
        "train_dataloader.sampler.shuffle": True,
        "default_hooks.checkpoint.interval": 500,
        "default_hooks.checkpoint.by_epoch": False,
        "runner_type": "flmm.runner.CustomRunner",
        "model.type": "flmm.models.frozen_llava.FrozenLlavaSAM",
        "model.model.pretrained_model_name_or_path": "llava-hf/llava-1.5-7b-hf",
        "model.model.dtype": "torch.bfloat16",
        "model.mask_head.base_channels": 64,
        "model.mask_head.num_stages": 4,
        "model.mask_head.upsample_input": 64,
        "model.mask_head.normalize_input": True,
        "model.mask_head.norm_cfg.type": "torch.nn.GroupNorm",
        "model.mask_head.norm_cfg.num_groups": 1,
        "model.mask_head.upsample_cfg.type": "mmseg.models.backbones.unet.InterpConv",
        **{f"model.mask_head.strides[{i}]": 1 for i in range(4)},
        **{f"model.mask_head.enc_num_convs[{i}]": 2 for i in range(4)},
        **{f"model.mask_head.dec_num_convs[{i}]": 2 for i in range(3)},
        "model.sam.model_name": "vit_l",
        "model.sam.checkpoint": "checkpoints/sam_vit_l_0b3195.pth",
        "model.sam.multimask_output": False,
        **{f"model.sam.use_{prompt}": True for prompt in ("text", "mask", "box")},
        "model.loss_mask.type": "mmdet.models.CrossEntropyLoss",
        "model.loss_mask.use_sigmoid": True,
        "model.loss_dice.type": "mmdet.models.DiceLoss",
        "model.loss_dice.naive_dice": True,
        "model.loss_dice.eps": 1.0,
        f"{png}.json_file": "data/coco/annotations/png_coco_train2017.json",
        f"{png}.panoptic_png_path": "data/coco/annotations/panoptic_train2017",
        f"{png}.local_path": "data/coco/train2017",
        f"{builder}.prompt": "<image>\nPlease give me a description of the image.",
        f"{builder}.prompt_template": "xtuner.utils.templates.PROMPT_TEMPLATE.vicuna",
        f"{builder}.tokenizer.pretrained_model_name_or_path": "llava-hf/llava-1.5-7b-hf",
        f"{builder}.image_processor.pretrained_model_name_or_path": "openai/clip-vit-large-patch14-336",
        f"{refcoco}.split_file": "refcoco/refs(unc).p",
        f"{refcoco_plus}.split_file": "refcoco+/refs(unc).p",
        f"{refcocog}.split_file": "refcocog/refs(umd).p",
        **{f"{refs}.data_root": "data/coco/" for refs in (refcoco, refcoco_plus, refcocog)},
        **{f"{refs}.type": "flmm.datasets.res.RESDataset" for refs in (refcoco, refcoco_plus, refcocog)},
        f"{builder}.image_processor.type": "flmm.datasets.llava_processors.CustomLlavaImageProcessor.from_pretrained",
    }
    wrong = {key: (found.get(key), value) for key, value in expected.items() if found.get(key) != value}
    assert not wrong


def test_no_config_states_what_follows_from_its_lmm():
    assert [str(path) for path in (ROOT / "configs").rglob("*.py") if "in_channels" in path.read_text()] == []


def test_tiny_differs_where_it_must():
    """Weights and data, the sizes that follow from them, and the schedule of a short run on a CPU."""
    llava, tiny = settings(LLAVA), settings(TINY)
    used = ("model", "train_dataloader", "optim_wrapper", "param_scheduler", "train_cfg", "default_hooks", "env_cfg")
    changed = {
        key
        for key in llava.keys() | tiny.keys()
        if key.startswith((*used, "runner", "randomness", "visualizer")) and llava.get(key) != tiny.get(key)
    }
    paths = {key for key in changed if "coco" in str(llava.get(key)) or key.endswith("pretrained_model_name_or_path")}
    template = "train_dataloader.dataset.shared.sample_builder.prompt_template"
    assert changed - paths == {
        template,
        "train_dataloader.dataset.shared.sample_builder.tokenizer.legacy",  # Vicuna's tokenizer alone needs it
        *(f"{template}.{key}" for key in ("INSTRUCTION", "SEP", "SEVERAL_PICTURES")),
        "default_hooks.checkpoint.interval",
        "model.mask_head.base_channels",
        "model.model.dtype",
        "model.sam.checkpoint",
        "model.sam.model_name",
        "optim_wrapper.type",
        "optim_wrapper.accumulative_counts",
        "optim_wrapper.dtype",
        "optim_wrapper.loss_scale",
        "optim_wrapper.optimizer.lr",
        *(f"param_scheduler[{i}].{key}" for i in (0, 1) for key in ("by_epoch", "convert_to_iter_based", "end")),
        "param_scheduler[1].begin",
        "train_cfg.max_epochs",
        "train_cfg.max_iters",
    }
