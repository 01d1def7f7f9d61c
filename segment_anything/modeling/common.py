"""Layers that the encoders and the decoder share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them, the same width in and out."""

    def __init__(self, embedding_dim: int, mlp_dim: int, act: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embedding_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embedding_dim)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., embedding_dim] to the same shape."""
        return self.lin2(self.act(self.lin1(x)))


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of every pixel of an NCHW tensor."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, h, w] to the same shape."""
        channels_last = x.permute(0, 2, 3, 1)
        normed = functional.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


def make_neck(width: int, out_chans: int) -> nn.Sequential:
    """The convolutions with which every image encoder ends: [B, width, h, w] to [B, out_chans, h, w]."""
    return nn.Sequential(
        nn.Conv2d(width, out_chans, kernel_size=1, bias=False),
        LayerNorm2d(out_chans),
        nn.Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_chans),
    )


def check_image_size(x: Tensor, img_size: int) -> None:
    """Refuse an image batch that was not brought to the square the encoder was built for.

    Raises:
        ValueError: if `x` is not [B, C, img_size, img_size].
    """
    if x.ndim != 4 or tuple(x.shape[-2:]) != (img_size, img_size):
        raise ValueError(
            f"the image encoder takes [B, C, {img_size}, {img_size}], got {list(x.shape)}: "
            "resize the longest side with ResizeLongestSide and pad with Sam.preprocess"
        )
