"""SAM's image encoder: a plain ViT with windowed and global attention (arXiv 2203.16527, 2304.02643).

The decomposed relative position adds q·R_h[row distance] + q·R_w[column distance] to every attention logit.
That is an [N, N] map per head, 64 MiB in float32 at 64 x 64 tokens. It is made for a slab of queries at a
time and handed to the fused attention, which makes no map of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .common import MLPBlock, check_image_size, make_neck

MAX_BIAS_ELEMENTS = 2**24  # 64 MiB in float32


class ImageEncoderViT(nn.Module):
    """ViT over a square image, with a convolutional neck.

    Args:
        img_size: side of the input image in pixels.
        patch_size: side of a patch in pixels.
        in_chans: channels of the input image.
        embed_dim: width of the blocks.
        depth: number of blocks.
        num_heads: attention heads of a block.
        mlp_ratio: hidden width of the block's MLP over `embed_dim`.
        out_chans: channels of the embedding.
        qkv_bias: whether queries, keys and values have a bias.
        norm_layer: normalisation of the blocks.
        act_layer: activation of the MLPs.
        use_abs_pos: whether a learned absolute position is added to the patches.
        use_rel_pos: whether the attention has the decomposed relative position.
        rel_pos_zero_init: start the relative positions at zero (else from a truncated normal).
        window_size: side of the attention windows in patches, 0 for global attention everywhere.
        global_attn_indexes: the blocks with global attention.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        out_chans: int = 256,
        qkv_bias: bool = True,
        norm_layer: type[nn.Module] = nn.LayerNorm,
        act_layer: type[nn.Module] = nn.GELU,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        global_attn_indexes: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.img_size = img_size
        grid = img_size // patch_size
        self.patch_embed = PatchEmbed((patch_size, patch_size), (patch_size, patch_size), (0, 0), in_chans, embed_dim)
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, embed_dim))
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio,
                qkv_bias,
                norm_layer,
                act_layer,
                use_rel_pos,
                rel_pos_zero_init,
                0 if index in global_attn_indexes else window_size,
                (grid, grid),
            )
            for index in range(depth)
        )
        self.neck = make_neck(embed_dim, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Args:
            x: normalised images [B, in_chans, img_size, img_size].

        Returns:
            Embeddings [B, out_chans, h, w] with h = w = img_size / patch_size.

        Raises:
            ValueError: if the images have another size.
        """
        check_image_size(x, self.img_size)
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))


class PatchEmbed(nn.Module):
    """One strided convolution: image [B, 3, H, W] to patches [B, h, w, embed_dim]."""

    def __init__(
        self,
        kernel_size: tuple[int, int] = (16, 16),
        stride: tuple[int, int] = (16, 16),
        padding: tuple[int, int] = (0, 0),
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=kernel_size, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_chans, H, W] to [B, h, w, embed_dim]."""
        return self.proj(x).permute(0, 2, 3, 1)


class Block(nn.Module):
    """Pre-norm transformer block; attention inside windows of `window_size`, or global when that is 0."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_layer: type[nn.Module] = nn.LayerNorm,
        act_layer: type[nn.Module] = nn.GELU,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        attended = (window_size, window_size) if window_size else input_size
        self.norm1 = norm_layer(dim)
        self.attn = Attention(dim, num_heads, qkv_bias, use_rel_pos, rel_pos_zero_init, attended)
        self.norm2 = norm_layer(dim)
        self.mlp = MLPBlock(dim, int(dim * mlp_ratio), act_layer)
        self.window_size = window_size

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, h, w, dim] to the same shape."""
        x = x + self._attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        if not self.window_size:
            return self.attn(x)
        windows, padded = window_partition(x, self.window_size)
        return window_unpartition(self.attn(windows), self.window_size, padded, (x.shape[1], x.shape[2]))


class Attention(nn.Module):
    """Multi-head self-attention over a grid, optionally with the decomposed relative position."""

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.use_rel_pos = use_rel_pos
        if not use_rel_pos:
            return
        if input_size is None:
            raise ValueError("relative positions need input_size, the (height, width) of the attended grid")
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * input_size[0] - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * input_size[1] - 1, head_dim))
        if not rel_pos_zero_init:
            nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
            nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, h, w, dim] to the same shape."""
        batch, height, width, dim = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, N, head_dim]
        if self.use_rel_pos:
            out = self._attend_with_rel_pos(q, k, v, height, width)
        else:
            out = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, dim))

    def _attend_with_rel_pos(self, q: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
        grid_q = q.unflatten(2, (height, width))
        rel_h = torch.einsum("bnhwc,hkc->bnhwk", grid_q, get_rel_pos(height, height, self.rel_pos_h)).flatten(2, 3)
        rel_w = torch.einsum("bnhwc,wkc->bnhwk", grid_q, get_rel_pos(width, width, self.rel_pos_w)).flatten(2, 3)
        slab = max(1, MAX_BIAS_ELEMENTS // (k.shape[0] * k.shape[1] * k.shape[2]))
        outs = []
        for part, part_h, part_w in zip(*(x.split(slab, dim=2) for x in (q, rel_h, rel_w)), strict=True):
            bias = (part_h.unsqueeze(-1) + part_w.unsqueeze(-2)).flatten(3)  # [B, heads, slab, N]
            outs.append(functional.scaled_dot_product_attention(part, k, v, attn_mask=bias))
        return torch.cat(outs, dim=2)


def get_rel_pos(q_size: int, k_size: int, rel_pos: Tensor) -> Tensor:
    """Look up the vectors of every (query, key) pair along one axis.

    Args:
        q_size: number of queries along the axis.
        k_size: number of keys; the shorter of both is stretched to the longer.
        rel_pos: table [L, C], one vector for each distance; interpolated when there are more or fewer distances.

    Returns:
        [q_size, k_size, C].
    """
    distances = 2 * max(q_size, k_size) - 1
    if len(rel_pos) != distances:
        rel_pos = functional.interpolate(rel_pos.T[None], size=distances, mode="linear")[0].T
    queries = torch.arange(q_size, device=rel_pos.device) * max(k_size / q_size, 1.0)
    keys = torch.arange(k_size, device=rel_pos.device) * max(q_size / k_size, 1.0)
    steps = queries[:, None] - keys[None, :] + (k_size - 1) * max(q_size / k_size, 1.0)
    return rel_pos[steps.long()]


def add_decomposed_rel_pos(
    attn: Tensor,
    q: Tensor,
    rel_pos_h: Tensor,
    rel_pos_w: Tensor,
    q_size: tuple[int, int],
    k_size: tuple[int, int],
) -> Tensor:
    """Add the relative positions to whole attention maps; for code that makes them (`Attention` does not).

    Args:
        attn: logits [B, q_h * q_w, k_h * k_w].
        q: queries [B, q_h * q_w, C].
        rel_pos_h: table of the vertical distances.
        rel_pos_w: table of the horizontal distances.
        q_size: (q_h, q_w).
        k_size: (k_h, k_w).
    """
    grid = q.unflatten(1, q_size)
    rel_h = torch.einsum("bhwc,hkc->bhwk", grid, get_rel_pos(q_size[0], k_size[0], rel_pos_h))
    rel_w = torch.einsum("bhwc,wkc->bhwk", grid, get_rel_pos(q_size[1], k_size[1], rel_pos_w))
    added = attn.unflatten(2, k_size).unflatten(1, q_size) + rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)
    return added.flatten(3).flatten(1, 2)


def window_partition(x: Tensor, window_size: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut [B, h, w, C] into windows, padded with zeros at the bottom and the right.

    Returns:
        Windows [B * n, window_size, window_size, C], and the padded (height, width).
    """
    height, width = x.shape[1:3]
    x = functional.pad(x, (0, 0, 0, -width % window_size, 0, -height % window_size))
    padded = x.shape[1], x.shape[2]
    x = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))  # [B, rows, size, columns, size, C]
    return x.transpose(2, 3).flatten(0, 2), padded


def window_unpartition(windows: Tensor, window_size: int, pad_hw: tuple[int, int], hw: tuple[int, int]) -> Tensor:
    """Undo `window_partition`: [B * n, size, size, C] to [B, *hw, C], without the padding up to `pad_hw`."""
    x = windows.unflatten(0, (-1, pad_hw[0] // window_size, pad_hw[1] // window_size)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, : hw[0], : hw[1]]
