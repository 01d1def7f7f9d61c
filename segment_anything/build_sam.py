"""Put a SAM together by name: `sam_model_registry["vit_l"](checkpoint="sam_vit_l_0b3195.pth")`.

A new variant is one function and one entry in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from .checkpoint import load_weights
from .modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TinyViT, TwoWayTransformer
from .modeling.tiny_vit import rename_mobile_sam_keys


def build_sam_vit_h(checkpoint: str | Path | None = None) -> Sam:
    """SAM with ViT-H, 636 M weights (`sam_vit_h_4b8939.pth`)."""
    return build_vit_sam(
        encoder_embed_dim=1280,
        encoder_depth=32,
        encoder_num_heads=16,
        encoder_global_attn_indexes=(7, 15, 23, 31),
        checkpoint=checkpoint,
    )


def build_sam_vit_l(checkpoint: str | Path | None = None) -> Sam:
    """SAM with ViT-L, 308 M weights (`sam_vit_l_0b3195.pth`)."""
    return build_vit_sam(
        encoder_embed_dim=1024,
        encoder_depth=24,
        encoder_num_heads=16,
        encoder_global_attn_indexes=(5, 11, 17, 23),
        checkpoint=checkpoint,
    )


def build_sam_vit_b(checkpoint: str | Path | None = None) -> Sam:
    """SAM with ViT-B, 91 M weights (`sam_vit_b_01ec64.pth`)."""
    return build_vit_sam(
        encoder_embed_dim=768,
        encoder_depth=12,
        encoder_num_heads=12,
        encoder_global_attn_indexes=(2, 5, 8, 11),
        checkpoint=checkpoint,
    )


def build_sam_vit_t(checkpoint: str | Path | None = None) -> Sam:
    """MobileSAM: SAM with TinyViT, 10 M weights (`mobile_sam.pt`)."""
    sam = assemble_sam(TinyViT(img_size=1024, out_chans=256), image_size=1024, embedding_stride=16)
    if checkpoint is not None:
        load_weights(sam, checkpoint, rename=rename_mobile_sam_keys)
    return sam


def build_sam_vit_nano(checkpoint: str | Path | None = None) -> Sam:
    """A SAM that a laptop can train: 256-pixel images, 1.6 M weights (`checkpoints/sam_vit_nano.pth`)."""
    return build_vit_sam(
        encoder_embed_dim=96,
        encoder_depth=4,
        encoder_num_heads=4,
        encoder_global_attn_indexes=(1, 3),
        image_size=256,
        vit_patch_size=8,
        window_size=8,
        prompt_embed_dim=128,
        transformer_mlp_dim=512,
        checkpoint=checkpoint,
    )


def build_vit_sam(
    *,
    encoder_embed_dim: int,
    encoder_depth: int,
    encoder_num_heads: int,
    encoder_global_attn_indexes: tuple[int, ...],
    image_size: int = 1024,
    vit_patch_size: int = 16,
    window_size: int = 14,
    prompt_embed_dim: int = 256,
    transformer_mlp_dim: int = 2048,
    checkpoint: str | Path | None = None,
) -> Sam:
    """Build a SAM around a plain ViT; the defaults are those of the published models.

    Args:
        encoder_embed_dim: width of the ViT.
        encoder_depth: its blocks.
        encoder_num_heads: its heads.
        encoder_global_attn_indexes: its blocks with global attention.
        image_size: side of the input image in pixels.
        vit_patch_size: side of a patch in pixels.
        window_size: side of the attention windows in patches.
        prompt_embed_dim: width of image embedding, prompts and decoder.
        transformer_mlp_dim: hidden width of the decoder's MLPs.
        checkpoint: weights to load (see `load_weights`); random ones without.

    Returns:
        The model in eval mode, float32, on the CPU.
    """
    encoder = ImageEncoderViT(
        img_size=image_size,
        patch_size=vit_patch_size,
        embed_dim=encoder_embed_dim,
        depth=encoder_depth,
        num_heads=encoder_num_heads,
        out_chans=prompt_embed_dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window_size,
        global_attn_indexes=tuple(encoder_global_attn_indexes),
    )
    sam = assemble_sam(
        encoder,
        image_size=image_size,
        embedding_stride=vit_patch_size,
        prompt_embed_dim=prompt_embed_dim,
        transformer_mlp_dim=transformer_mlp_dim,
    )
    if checkpoint is not None:
        load_weights(sam, checkpoint)
    return sam


def _build_sam(
    encoder_embed_dim: int,
    encoder_depth: int,
    encoder_num_heads: int,
    encoder_global_attn_indexes: Sequence[int],
    checkpoint: str | Path | None = None,
) -> Sam:
    """`build_vit_sam` with the arguments of the package that this one stands in for; others' variants call it."""
    return build_vit_sam(
        encoder_embed_dim=encoder_embed_dim,
        encoder_depth=encoder_depth,
        encoder_num_heads=encoder_num_heads,
        encoder_global_attn_indexes=tuple(encoder_global_attn_indexes),
        checkpoint=checkpoint,
    )


def assemble_sam(
    image_encoder: nn.Module,
    *,
    image_size: int,
    embedding_stride: int,
    prompt_embed_dim: int = 256,
    transformer_mlp_dim: int = 2048,
) -> Sam:
    """Join an image encoder with SAM's prompt encoder and mask decoder, in eval mode.

    Args:
        image_encoder: gives [B, prompt_embed_dim, h, w] and has the attribute `img_size`.
        image_size: side of its input in pixels.
        embedding_stride: pixels per cell of its output.
        prompt_embed_dim: channels of its output.
        transformer_mlp_dim: hidden width of the decoder's MLPs.
    """
    grid = image_size // embedding_stride
    prompt_encoder = PromptEncoder(
        embed_dim=prompt_embed_dim,
        image_embedding_size=(grid, grid),
        input_image_size=(image_size, image_size),
        mask_in_chans=16,
    )
    mask_decoder = MaskDecoder(
        transformer_dim=prompt_embed_dim,
        transformer=TwoWayTransformer(
            depth=2, embedding_dim=prompt_embed_dim, num_heads=8, mlp_dim=transformer_mlp_dim
        ),
    )
    return Sam(image_encoder, prompt_encoder, mask_decoder).eval()


build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
    "vit_t": build_sam_vit_t,
    "vit_nano": build_sam_vit_nano,
}
