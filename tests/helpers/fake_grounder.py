"""A grounding model without weights: obeys the contract of FrozenLMM, reads the answer off the sample."""

import os
import time

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import nn


class FakeBackbone(nn.Module):
    views_include_padding = True


class FakeGrounder(BaseModel):
    """Coarse masks are the ground truth at a quarter of its size, refined ones the ground truth with noise.

    Without ground truth each phrase gets a disc. The noise depends on the picture only. The environment variable
    SECONDS_PER_SAMPLE makes it slow.
    """

    def __init__(self, noise=1.0, pretrained=None):
        super().__init__()
        self.backbone = FakeBackbone()
        self.noise = noise
        self.mask_head = nn.Linear(2, 2)

    def forward(self, data, data_samples=None, mode="loss"):
        assert mode == "tensor"
        return [self.ground(s) for s in data] if isinstance(data, list) else self.ground(data)

    def ground(self, sample):
        time.sleep(float(os.environ.get("SECONDS_PER_SAMPLE", 0)))
        image = sample["image"]
        num_phrases = int(sample["mask_ids"].max()) + 1
        masks = sample.get("gt_masks", discs(num_phrases, image.height, image.width)).float()
        assert masks.shape == (num_phrases, image.height, image.width)
        seed = int(sample["pixel_values"].double().abs().sum() * 1000) + len(sample["input_ids"])
        noise = torch.randn(masks.shape, generator=torch.Generator().manual_seed(seed))
        refined = 4 * masks - 2 + self.noise * noise
        coarse = F.interpolate(refined[None], scale_factor=0.25, mode="bilinear")[0]
        maps = F.interpolate(masks[None], size=(6, 6), mode="area")[0][:, None].expand(-1, 4, -1, -1)
        found = {"pred_masks": coarse, "sam_pred_masks": refined, "mask_attentions": maps + 0.1}
        return found | {"presence": torch.ones(num_phrases)}


def discs(count, height, width):
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = [(height / 2, width * (i + 1) / (count + 1)) for i in range(count)]
    return torch.stack([((ys - y) ** 2 + (xs - x) ** 2) < (height / 6) ** 2 for y, x in centres])
