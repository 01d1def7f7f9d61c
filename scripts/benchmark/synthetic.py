"""A grounding model of any size with random weights, and samples for it."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from mmengine.config import Config
from PIL import Image
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from flmm.models.backbone import Backbone, Tokens
from flmm.models.frozen_lmm import FrozenLMM

HEAD = "configs/_base_/models.py"
# layers, heads, width, feed-forward width, vocabulary, side of the picture's grid, prompt tokens
SHAPES = {
    "llava_1_5_7b": (32, 32, 4096, 11008, 32_000, 24, 40),
    "llava_next_7b": (32, 32, 4096, 11008, 32_000, 52, 40),
    "deepseek_1_3b": (24, 16, 2048, 5632, 102_400, 24, 40),
    "small": (8, 16, 1024, 2752, 32_000, 24, 40),
    "tiny": (4, 8, 256, 688, 1_000, 12, 20),
}
PHRASES, WORDS = 5, 4  # phrases of a caption, tokens of a phrase


class SyntheticBackbone(Backbone):
    """A causal language model whose image features come with the sample."""

    @property
    def decoder(self) -> nn.Module:
        """The decoder."""
        return self.model.model

    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """The sample's own embeddings and grid."""
        return Tokens({"inputs_embeds": sample["inputs_embeds"]}, sample["mask_ids"], [sample["view"]])


def add_options(parser: argparse.ArgumentParser, shape: str = "small", sam: str = "vit_b") -> None:
    """The size of the model."""
    parser.add_argument("--shape", default=shape, choices=SHAPES, help="which LMM the decoder is as large as")
    parser.add_argument("--layers", type=int, help="fewer layers than that LMM has")
    parser.add_argument("--length", type=int, help="tokens of a sequence [grid + prompt + phrases]")
    parser.add_argument("--sam", default=sam, help="vit_nano, vit_b, vit_l or vit_h")


def make_model(args: argparse.Namespace) -> FrozenLMM:
    """The grounding model, in training mode; the LMM in `args.dtype`, the rest in float32."""
    layers, heads, width, inner, vocabulary, _, _ = SHAPES[args.shape]
    layers = args.layers or layers
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=16_384,
        attn_implementation="sdpa",
        dtype=args.dtype,
    )
    torch.manual_seed(0)
    with torch.device(args.device):
        lmm = LlamaForCausalLM._from_config(config, dtype=getattr(torch, args.dtype))
        head = Config.fromfile(HEAD).model
        head.mask_head.update(in_channels=layers * heads)
        head.sam.update(model_name=args.sam, checkpoint=None)
        model = FrozenLMM(SyntheticBackbone(lmm), **head)
    return model.train()


def make_sample(args: argparse.Namespace, seed: int = 0, more: int = 0) -> dict[str, Any]:
    """A sample with a random picture of 640 x 480; `more` tokens stand after its caption."""
    *_, side, prompt = SHAPES[args.shape]
    width = SHAPES[args.shape][2]
    generator = torch.Generator().manual_seed(seed)
    caption = torch.arange(PHRASES).repeat_interleave(WORDS)
    before = max(0, (args.length or 0) - side * side - len(caption)) or prompt
    mask_ids = torch.cat([torch.full((side * side + before,), -1), caption, torch.full((more,), -1)])
    view = torch.arange(side * side).view(side, side) + before // 2
    embeds = torch.randn(1, len(mask_ids), width, generator=generator)
    pixels = torch.randint(0, 256, (480, 640, 3), generator=generator, dtype=torch.uint8)
    frame = {"height": side, "width": side}
    nothing = dict.fromkeys(("before_height", "after_height", "before_width", "after_width"), 0)
    return {
        "inputs_embeds": embeds.to(args.device, getattr(torch, args.dtype)),
        "mask_ids": mask_ids.to(args.device),
        "view": view.to(args.device),
        "image": Image.fromarray(pixels.numpy()),
        "masks": torch.rand(PHRASES, side * 8, side * 8, generator=generator) > 0.5,
        "meta_data": {"image_shape": frame, "padded_shape": frame, "padding": nothing},
    }
