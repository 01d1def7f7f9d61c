"""SAM's prompt encoder: points, boxes, masks and text tokens to embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .common import LayerNorm2d


class PromptEncoder(nn.Module):
    """Turn prompts into sparse tokens and a dense map for the mask decoder.

    Args:
        embed_dim: width of the embeddings.
        image_embedding_size: (h, w) of the image embedding.
        input_image_size: (H, W) of the padded image in pixels, the frame of points and boxes.
        mask_in_chans: hidden channels of the mask prompt's convolutions.
        activation: activation of these convolutions.
    """

    def __init__(
        self,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.input_image_size = input_image_size
        self.image_embedding_size = image_embedding_size
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        # background point, foreground point, top-left corner, bottom-right corner
        self.num_point_embeddings = 4
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_input_size = (4 * image_embedding_size[0], 4 * image_embedding_size[1])
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            activation(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            activation(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the embeddings."""
        return self.no_mask_embed.weight.dtype

    def get_dense_pe(self) -> Tensor:
        """Positional encoding of the image embedding's grid, [1, embed_dim, h, w]."""
        return self.pe_layer(self.image_embedding_size).unsqueeze(0)

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        text_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed the prompts of B masks.

        Args:
            points: coordinates [B, N, 2] (x, y) in pixels of the padded image, and labels [B, N]:
                1 foreground, 0 background, -1 no point.
            boxes: [B, 4] xyxy in the same pixels.
            masks: mask logits [B, 1, *mask_input_size]; [1, 1, *mask_input_size] is for all B.
            text_embeds: text tokens [B, T, embed_dim], appended to the sparse embeddings.

        Returns:
            Sparse embeddings [B, N, embed_dim] (points, box corners, text), dense ones [B, embed_dim, h, w].

        Raises:
            ValueError: if the given prompts are not for the same number of masks.
        """
        batch = _common_batch(points=points and points[0], boxes=boxes, masks=masks, text_embeds=text_embeds)
        sparse = [self.no_mask_embed.weight.new_zeros(batch, 0, self.embed_dim)]
        if points is not None:
            sparse.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            sparse.append(self._embed_boxes(boxes))
        if text_embeds is not None:
            sparse.append(text_embeds.to(self.dtype))
        return torch.cat(sparse, dim=1), self._embed_masks(masks, batch)

    def _embed_points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        if pad:  # SAM was trained to see either a box or an empty point after the points
            points = torch.cat([points, points.new_zeros(len(points), 1, 2)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
        position = self._encode(points)
        background, foreground = self.point_embeddings[0].weight, self.point_embeddings[1].weight
        labels = labels.unsqueeze(-1)
        embedded = torch.where(labels == -1, self.not_a_point_embed.weight, position)
        embedded = torch.where(labels == 0, embedded + background, embedded)
        return torch.where(labels == 1, embedded + foreground, embedded)

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        corners = self._encode(boxes.reshape(-1, 2, 2))
        return corners + torch.cat([self.point_embeddings[2].weight, self.point_embeddings[3].weight])

    def _encode(self, points: Tensor) -> Tensor:
        """Positional encoding of pixels, taken at their centres."""
        return self.pe_layer.forward_with_coords(points.float() + 0.5, self.input_image_size).to(self.dtype)

    def _embed_masks(self, masks: Tensor | None, batch: int) -> Tensor:
        if masks is None:
            return self.no_mask_embed.weight.view(1, -1, 1, 1).expand(batch, -1, *self.image_embedding_size)
        return self.mask_downscaling(masks.to(self.dtype)).expand(batch, -1, -1, -1)


def _common_batch(**prompts: Tensor | None) -> int:
    sizes = {name: len(prompt) for name, prompt in prompts.items() if prompt is not None}
    if len(sizes) > 1 and sizes.get("masks") == 1:
        del sizes["masks"]  # one for all
    if len(set(sizes.values())) > 1:
        raise ValueError(f"prompts must be for the same number of masks, got {sizes}")
    return next(iter(sizes.values()), 1)


class PositionEmbeddingRandom(nn.Module):
    """Fourier features of 2-D positions with random frequencies.

    Computed in float32 whatever the dtype of the module: bfloat16 cannot tell neighbouring pixels of a
    1024-pixel image apart. The products are written out because autocast would run a matmul in half.
    """

    def __init__(self, num_pos_feats: int = 64, scale: float | None = None) -> None:
        super().__init__()
        if scale is None or scale <= 0.0:
            scale = 1.0
        self.register_buffer("positional_encoding_gaussian_matrix", scale * torch.randn(2, num_pos_feats))

    def forward(self, size: tuple[int, int]) -> Tensor:
        """Encode the centres of a grid of `size` (h, w): [2 * num_pos_feats, h, w]."""
        device = self.positional_encoding_gaussian_matrix.device
        y, x = ((torch.arange(n, device=device) + 0.5) / n for n in size)
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        encoded = self._encode_unit(centres).permute(2, 0, 1)
        return encoded.to(self.positional_encoding_gaussian_matrix.dtype)

    def forward_with_coords(self, coords_input: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Encode pixels [B, N, 2] (x, y) of an image of size (H, W): float32 [B, N, 2 * num_pos_feats]."""
        height, width = image_size
        extent = torch.tensor([width, height], dtype=torch.float32, device=coords_input.device)
        return self._encode_unit(coords_input.float() / extent)

    def _encode_unit(self, coords: Tensor) -> Tensor:
        """Encode positions in the unit square, [..., 2] to [..., 2 * num_pos_feats]."""
        frequencies = self.positional_encoding_gaussian_matrix.float()
        coords = 2.0 * coords - 1.0
        phase = 2.0 * math.pi * (coords[..., :1] * frequencies[0] + coords[..., 1:] * frequencies[1])
        return torch.cat([phase.sin(), phase.cos()], dim=-1)
