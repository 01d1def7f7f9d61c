"""The two vision towers of MGM: CLIP for the tokens, OpenCLIP's ConvNeXt for the detail they mine."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

AUX_STRIDE = 4  # pixels per feature of the finest ConvNeXt stage


class CLIPVisionTower(nn.Module):
    """Patch features of one CLIP layer.

    Args:
        config: Arguments of `CLIPVisionConfig`.
        select_layer: Which of CLIP's hidden states is read; MGM takes -2.
    """

    def __init__(self, config: dict[str, Any], select_layer: int):
        super().__init__()
        self.vision_tower = CLIPVisionModel(CLIPVisionConfig(**config))
        self.depth = select_layer % (len(self.vision_tower.encoder.layers) + 1)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, s, s] -> [B, h*w, C], without the class token."""
        tower = self.vision_tower
        hidden = tower.pre_layrnorm(tower.embeddings(images))
        # Not by `output_hidden_states`: once the language model around it was asked for its hidden states,
        # transformers 5.24 records each of the tower's layers twice, and counts wrongly.
        for layer in tower.encoder.layers[: self.depth]:
            hidden = layer(hidden, None)
        return hidden[:, 1:]


class OpenCLIPVisionTower(nn.Module):
    """Features of all ConvNeXt stages at the resolution of the first one.

    Args:
        depths: Blocks of each stage.
        dims: Channels of each stage.
    """

    def __init__(self, depths: Sequence[int], dims: Sequence[int]):
        super().__init__()
        trunk = ConvNeXt(depths=tuple(depths), dims=tuple(dims), num_classes=0)
        self.vision_stem = trunk.stem
        self.vision_stages = trunk.stages

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, A, A] -> [B, sum(dims), A/4, A/4]."""
        stages, x = [], self.vision_stem(images)
        for stage in self.vision_stages:
            x = stage(x)
            stages.append(x)
        size = stages[0].shape[-2:]
        resized = [F.interpolate(x.float(), size=size, mode="bilinear").to(x.dtype) for x in stages[1:]]
        return torch.cat([stages[0], *resized], dim=1)


def trunk_shape(weights: dict[str, Tensor]) -> tuple[list[int], list[int]]:
    """Depths and dims of a ConvNeXt, read off its weights (`stages.<i>.blocks.<j>...` after any prefix)."""
    blocks = [key.split(".") for key in weights if key.endswith(".gamma")]
    stages = [int(parts[-4]) for parts in blocks]
    depths = [stages.count(stage) for stage in sorted(set(stages))]
    widths = {stage: len(weights[".".join(parts)]) for stage, parts in zip(stages, blocks, strict=True)}
    return depths, [widths[stage] for stage in sorted(widths)]
