"""UNetHead, ConvHead: from a stack of attention maps to one coarse mask per phrase."""

from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.backbones.unet import UNet
from torch import Tensor, nn


class UNetHead(UNet):
    """Predict masks by mmseg's U-Net between a normalization and a 1x1 convolution (paper section 3.2).

    Args:
        normalize_input: Divide each map by its spatial sum, so that it becomes a distribution over the image.
        upsample_input: Enlarge maps whose longer side is below this many cells; None to leave them.
        in_channels: C, number of stacked maps.
        **unet: Further arguments of `mmseg.models.backbones.unet.UNet`.
    """

    def __init__(
        self,
        normalize_input: bool = False,
        upsample_input: int | None = None,
        in_channels: int = 2048,
        **unet: Any,
    ):
        super().__init__(in_channels=in_channels, **unet)
        self.normalize_input = normalize_input
        self.upsample_input = upsample_input
        self.in_channels = in_channels
        self.conv_seg = nn.Conv2d(self.base_channels, 1, kernel_size=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Predict one logit map per phrase.

        Args:
            maps: [M, C, h, w], attention in 0..1.

        Returns:
            [M, 1, h', w'], h' = floor(h · max(1, upsample_input / max(h, w))).

        Raises:
            ValueError: When the channels are not those of this head or, with `normalize_input`, when values
                leave 0..1.
        """
        check_channels(maps, self.in_channels)
        maps = prepare(maps, self.normalize_input, self.upsample_input).to(self.conv_seg.weight.dtype)
        height, width = maps.shape[-2:]
        multiple = 2 ** (self.num_stages - 1)
        maps = F.pad(maps, (0, -width % multiple, 0, -height % multiple))
        features = super().forward(maps)[-1]
        return self.conv_seg(features[..., :height, :width])


class ConvHead(nn.Module):
    """Predict masks by a single convolution in the place of the U-Net; the paper's ablation.

    Args:
        normalize_input, upsample_input, in_channels: As of `UNetHead`.
        kernel_size: Side of the convolution, odd.
    """

    def __init__(
        self,
        normalize_input: bool = False,
        upsample_input: int | None = None,
        in_channels: int = 2048,
        kernel_size: int = 1,
    ):
        super().__init__()
        self.normalize_input = normalize_input
        self.upsample_input = upsample_input
        self.in_channels = in_channels
        self.conv_seg = nn.Conv2d(in_channels, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Predict one logit map per phrase: [M, C, h, w] -> [M, 1, h', w'] (errors: `UNetHead.forward`)."""
        check_channels(maps, self.in_channels)
        return self.conv_seg(prepare(maps, self.normalize_input, self.upsample_input).to(self.conv_seg.weight.dtype))


def check_channels(maps: Tensor, expected: int) -> None:
    """Refuse maps [M, C, h, w] of another number of channels (ValueError)."""
    if maps.shape[1] != expected:
        raise ValueError(
            f"the LMM gives {maps.shape[1]} attention maps, but mask_head.in_channels is {expected}; "
            "set it to views x layers x heads of the LMM"
        )


def prepare(maps: Tensor, normalize: bool, upsample: int | None) -> Tensor:
    """Normalize and enlarge attention maps [M, C, h, w], as `UNetHead` describes."""
    if normalize:
        low, high = (float(bound) for bound in torch.aminmax(maps.detach()))
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"attention maps must lie in 0..1, found {low:.4g}..{high:.4g}")
        maps = maps / maps.sum((-2, -1), keepdim=True).clamp(min=1e-12)
    if upsample is None:
        return maps
    # scale_factor, not size: the sampling points follow the exact factor, as released weights expect
    scale = max(1.0, upsample / max(maps.shape[-2:]))
    return F.interpolate(maps.float(), scale_factor=scale, mode="bilinear")
