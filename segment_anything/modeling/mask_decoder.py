"""SAM's mask decoder: image embedding and prompts to mask logits and their predicted IoU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .common import LayerNorm2d


class MaskDecoder(nn.Module):
    """Predict masks with a two-way transformer and one small MLP per mask token.

    Args:
        transformer_dim: width of the transformer.
        transformer: maps (image, its encoding, tokens) to (tokens, image).
        num_multimask_outputs: candidates that answer an ambiguous prompt; one more mask answers a clear one.
        activation: activation of the upscaling.
        iou_head_depth: layers of the MLP that predicts the masks' IoU.
        iou_head_hidden_dim: its hidden width.
    """

    def __init__(
        self,
        *,
        transformer_dim: int,
        transformer: nn.Module,
        num_multimask_outputs: int = 3,
        activation: type[nn.Module] = nn.GELU,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        self.transformer_dim = transformer_dim
        self.transformer = transformer
        self.num_multimask_outputs = num_multimask_outputs
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, transformer_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, transformer_dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(transformer_dim, transformer_dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(transformer_dim // 4),
            activation(),
            nn.ConvTranspose2d(transformer_dim // 4, transformer_dim // 8, kernel_size=2, stride=2),
            activation(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(transformer_dim, transformer_dim, transformer_dim // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(transformer_dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth)

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Predict the masks of B prompts.

        Args:
            image_embeddings: [1, C, h, w], one image for all prompts, or [B, C, h, w], an image for each.
            image_pe: positional encoding [1, C, h, w].
            sparse_prompt_embeddings: [B, N, C].
            dense_prompt_embeddings: [B, C, h, w].
            multimask_output: give the candidates instead of the one mask.

        Returns:
            Mask logits [B, K, 4h, 4w] and predicted IoUs [B, K]; K is `num_multimask_outputs` or 1.

        Raises:
            ValueError: if the number of images is neither 1 nor B.
        """
        masks, iou_pred = self.predict_masks(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
        )
        kept = slice(1, None) if multimask_output else slice(0, 1)
        return masks[:, kept], iou_pred[:, kept]

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict the mask of every mask token: logits [B, K + 1, 4h, 4w] and IoUs [B, K + 1]."""
        batch = len(sparse_prompt_embeddings)
        if len(image_embeddings) not in (1, batch):
            raise ValueError(
                f"got {len(image_embeddings)} image embeddings for {batch} prompts: "
                "give one image for all prompts or one for each"
            )
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(batch, -1, -1), sparse_prompt_embeddings], dim=1)
        image = image_embeddings + dense_prompt_embeddings  # a single image is broadcast, never repeated
        tokens, image_tokens = self.transformer(image, image_pe, tokens)
        upscaled = self.output_upscaling(image_tokens.transpose(1, 2).unflatten(2, image.shape[-2:]))
        kernels = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        masks = (kernels @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
        return masks, self.iou_prediction_head(tokens[:, 0])


class MLP(nn.Module):
    """`num_layers` linear layers with ReLU between them and, if asked, a sigmoid at the end."""

    def __init__(
        self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int, sigmoid_output: bool = False
    ) -> None:
        super().__init__()
        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.sigmoid_output = sigmoid_output

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., input_dim] to [..., output_dim]."""
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        x = self.layers[-1](x)
        return x.sigmoid() if self.sigmoid_output else x
