"""The two-way transformer of SAM's mask decoder: prompt tokens and image tokens attend to each other."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .common import MLPBlock


class TwoWayTransformer(nn.Module):
    """Layers of `TwoWayAttentionBlock`, then one last attention of the tokens to the image.

    Args:
        depth: number of layers.
        embedding_dim: width of tokens and image.
        num_heads: attention heads.
        mlp_dim: hidden width of the MLPs.
        activation: their activation.
        attention_downsample_rate: the cross-attentions work at `embedding_dim` over this.
    """

    def __init__(
        self,
        depth: int,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int,
        activation: type[nn.Module] = nn.ReLU,
        attention_downsample_rate: int = 2,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                embedding_dim,
                num_heads,
                mlp_dim,
                activation,
                attention_downsample_rate,
                skip_first_layer_pe=i == 0,
            )
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embedding_dim)

    def forward(self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens and image exchange what they know.

        Args:
            image_embedding: [B, C, h, w].
            image_pe: its positional encoding, [B, C, h, w] or [1, C, h, w].
            point_embedding: prompt tokens [B, N, C]; they are their own positional encoding.

        Returns:
            The tokens [B, N, C] and the image [B, h * w, C].
        """
        queries, keys = point_embedding, image_embedding.flatten(2).transpose(1, 2)
        key_pe = image_pe.flatten(2).transpose(1, 2)
        for layer in self.layers:
            queries, keys = layer(queries, keys, point_embedding, key_pe)
        attended = self.final_attn_token_to_image(queries + point_embedding, keys + key_pe, keys)
        return self.norm_final_attn(queries + attended), keys


class TwoWayAttentionBlock(nn.Module):
    """Tokens attend to themselves and to the image, pass an MLP, and the image attends to them; post-norm."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int = 2048,
        activation: type[nn.Module] = nn.ReLU,
        attention_downsample_rate: int = 2,
        skip_first_layer_pe: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embedding_dim, num_heads)
        self.norm1 = nn.LayerNorm(embedding_dim)
        self.cross_attn_token_to_image = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.norm2 = nn.LayerNorm(embedding_dim)
        self.mlp = MLPBlock(embedding_dim, mlp_dim, activation)
        self.norm3 = nn.LayerNorm(embedding_dim)
        self.norm4 = nn.LayerNorm(embedding_dim)
        self.cross_attn_image_to_token = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.skip_first_layer_pe = skip_first_layer_pe

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Update tokens [B, N, C] and image [B, h * w, C]; values do not get the encodings."""
        queries = self.norm1(self._self_attend(queries, query_pe))
        located_keys = keys + key_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_pe, located_keys, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(located_keys, queries + query_pe, queries))
        return queries, keys

    def _self_attend(self, queries: Tensor, query_pe: Tensor) -> Tensor:
        if self.skip_first_layer_pe:  # the first layer's tokens are the encoding: no residual either
            return self.self_attn(queries, queries, queries)
        located = queries + query_pe
        return queries + self.self_attn(located, located, queries)


class Attention(nn.Module):
    """Multi-head attention whose heads share `embedding_dim / downsample_rate` channels."""

    def __init__(self, embedding_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        internal_dim = embedding_dim // downsample_rate
        if internal_dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {internal_dim} channels")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embedding_dim, internal_dim)
        self.k_proj = nn.Linear(embedding_dim, internal_dim)
        self.v_proj = nn.Linear(embedding_dim, internal_dim)
        self.out_proj = nn.Linear(internal_dim, embedding_dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from [B, N, C] to [B, K, C]; returns [B, N, C]."""
        q, k, v = (self._split(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        out = functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
