"""Reads the tensors recorded from the reference implementation (tests/golden)."""

import gzip
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models import CrossEntropyLoss, DiceLoss
from mmseg.models.backbones.unet import InterpConv
from PIL import Image
from safetensors.torch import load, load_file
from torch.nn import GroupNorm

from flmm.models.frozen_llava import FrozenLlavaSAM
from flmm.models.mask_head.mask_decoder import UNetHead
from flmm.models.mask_head.mask_refiner import SAMWrapper
from llava.modeling_llava import CustomLlavaForConditionalGeneration
from segment_anything import sam_model_registry
from segment_anything.build_sam import build_vit_sam

# Every recorded case can be checked from a full copy of the recordings: FLMM_GOLDEN=/path/to/dev make test
GOLDEN = Path(os.environ.get("FLMM_GOLDEN", Path(__file__).parents[1] / "golden"))
LOSSES = {
    "loss_mask": {"type": CrossEntropyLoss, "use_sigmoid": True, "reduction": "mean", "loss_weight": 1.0},
    "loss_dice": {
        "type": DiceLoss,
        "use_sigmoid": True,
        "activate": True,
        "reduction": "mean",
        "naive_dice": True,
        "eps": 1.0,
        "loss_weight": 1.0,
    },
}


def load_recorded(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, gzipped in this repository."""
    zipped = path.with_name(f"{path.name}.gz")
    return load(gzip.decompress(zipped.read_bytes())) if zipped.exists() else load_file(path)


def register_golden_sam() -> None:
    """Makes the recorded tiny SAM known as 'golden' (real structure, 1024 px, narrow image encoder)."""
    config = json.loads((GOLDEN / "_sam/sam_config.json").read_text())
    sam_model_registry["golden"] = partial(
        build_vit_sam,
        **{key: config[key] for key in ("encoder_embed_dim", "encoder_depth", "encoder_num_heads")},
        encoder_global_attn_indexes=tuple(config["encoder_global_attn_indexes"]),
    )


def unet_config(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recorded U-Net configuration with classes in the place of their names."""
    classes = {"norm_cfg": {"type": GroupNorm, "num_groups": 1}, "upsample_cfg": {"type": InterpConv}}
    return {"type": UNetHead, **recorded, **classes}


def golden_names(*prefixes: str) -> list[str]:
    """Model cases whose name begins with one of `prefixes`; at least one must exist."""
    names = sorted(p.parent.name for p in GOLDEN.glob("*/head.safetensors") if p.parent.name.startswith(prefixes))
    if not names:
        raise FileNotFoundError(f"no recorded case {prefixes} under {GOLDEN}")
    return names


class GoldenCase:
    """One recorded model case: how to build the head, what goes in, what must come out."""

    def __init__(self, name: str):
        register_golden_sam()
        self.dir = GOLDEN / name
        self.case = json.loads((self.dir / "case.json").read_text())
        self.outputs = load_recorded(self.dir / "outputs.safetensors")
        self.outputs_json = json.loads((self.dir / "outputs.json").read_text())

    def head_config(self) -> dict[str, Any]:
        """Everything of a Frozen*SAM constructor that is not the LMM."""
        return {
            "mask_head": unet_config(self.case["unet"]),
            "sam": {
                "type": SAMWrapper,
                "model_name": "golden",
                "checkpoint": str(GOLDEN / "_sam/sam_tiny.safetensors"),
                **self.case["sam_wrapper"],
            },
            "merge": self.case["merge"],
            **LOSSES,
        }

    def load_head(self, model: torch.nn.Module) -> None:
        """Loads the recorded trainable parameters outside SAM (those of SAM come with its checkpoint)."""
        head = {key: value.float() for key, value in load_file(self.dir / "head.safetensors").items()}
        expected = {n for n, p in model.named_parameters() if p.requires_grad and not n.startswith("sam.")}
        assert set(head) == expected
        model.load_state_dict(head, strict=False)

    def samples(self) -> list[dict[str, Any]]:
        """The recorded data samples."""
        tensors = load_recorded(self.dir / "inputs.safetensors")
        extra = json.loads((self.dir / "inputs.json").read_text())
        samples: dict[int, dict[str, Any]] = {}
        for key, value in {**extra, **tensors}.items():
            index, name = key.split("/", 1)
            samples.setdefault(int(index), {})[name] = value
        for index, sample in samples.items():
            sample["image"] = Image.fromarray(sample["image"].numpy())
            png = self.dir / f"pixel_values_{index}.png"
            if png.exists():
                pixels = torch.from_numpy(np.array(Image.open(png)))
                sample["pixel_values"] = pixels.permute(2, 0, 1).float() * (1 / 255)
        return [samples[index] for index in sorted(samples)]


def build_llava(case: GoldenCase) -> FrozenLlavaSAM:
    """The public LLaVA-1.5 class around the recorded LMM, with the head untrained."""
    llava = {
        "type": CustomLlavaForConditionalGeneration.from_pretrained,
        "pretrained_model_name_or_path": str(case.dir / "backbone"),
        "dtype": torch.float32,
    }
    return FrozenLlavaSAM(model=llava, **case.head_config())


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference relative to the largest expected magnitude."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    difference = (actual.detach().double().cpu() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max().clamp(min=1e-12))
