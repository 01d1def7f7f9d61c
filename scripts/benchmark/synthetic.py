"""A grounding model of any size with random weights, and samples for it."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from flmm.constants import IGNORE_INDEX
from flmm.models.backbone import Backbone, Tokens
from flmm.models.frozen_lmm import FrozenLMM

HEAD = "configs/_base_/models.py"
PHRASES, WORDS = 5, 4  # phrases of a caption, tokens of a phrase
ROWS = PHRASES * WORDS


class Shape(NamedTuple):
    """The size of an LMM, and of what it reads of a picture: sides of its square views, tokens of the prompt."""

    layers: int
    heads: int
    width: int
    inner: int
    vocabulary: int
    sides: tuple[int, ...]
    prompt: int
    kv_heads: int | None = None  # as many as heads

    @property
    def cells(self) -> int:
        """Image tokens of all views."""
        return sum(side * side for side in self.sides)

    @property
    def length(self) -> int:
        """Tokens of a sequence: views, prompt, phrases."""
        return self.cells + self.prompt + ROWS


SHAPES = {
    "llava_1_5_7b": Shape(32, 32, 4096, 11008, 32_000, (24,), 40),
    "llava_next_7b": Shape(32, 32, 4096, 11008, 32_000, (24, 48), 40),
    "qwen2_5_vl_7b": Shape(28, 28, 3584, 18944, 152_064, (38,), 40, 4),  # a picture of 1064 x 1064
    "deepseek_1_3b": Shape(24, 16, 2048, 5632, 102_400, (24,), 40),
    "small": Shape(8, 16, 1024, 2752, 32_000, (24,), 40),
    "tiny": Shape(4, 8, 256, 688, 1_000, (12,), 20),
}


class SyntheticBackbone(Backbone):
    """A causal language model whose image features come with the sample, as its pixels.

    Args:
        model: The language model.
        num_views: Views of a picture.
    """

    def __init__(self, model: nn.Module, num_views: int):
        super().__init__(model)
        self.num_views = num_views

    @property
    def decoder(self) -> nn.Module:
        """The decoder."""
        return self.model.model

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Puts the image features in the places of the image tokens."""
        embeds = self.model.get_input_embeddings()(sample["input_ids"].to(self.device))
        embeds[torch.cat([view.flatten() for view in sample["views"]])] = sample["pixel_values"]
        return Tokens({"inputs_embeds": embeds[None]}, sample["mask_ids"].to(self.device), sample["views"])


def add_options(parser: argparse.ArgumentParser, shape: str = "small", sam: str = "vit_b") -> None:
    """The size of the model."""
    parser.add_argument("--shape", default=shape, choices=SHAPES, help="which LMM the decoder is as large as")
    parser.add_argument("--layers", type=int, help="fewer layers than that LMM has")
    parser.add_argument(
        "--one-layer", action="store_true", help="all layers have the weights of one: as much work, little memory"
    )
    parser.add_argument("--length", type=int, help="tokens of a sequence [views + prompt + phrases]")
    parser.add_argument("--sam", default=sam, help="vit_nano, vit_b, vit_l or vit_h")


def make_model(args: argparse.Namespace) -> FrozenLMM:
    """The grounding model, in training mode; the LMM in `args.dtype`, the rest in float32."""
    shape = SHAPES[args.shape]
    layers = args.layers or shape.layers
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=1 if args.one_layer else layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=16_384,
        attn_implementation="sdpa",
        dtype=args.dtype,
    )
    torch.manual_seed(0)
    with torch.device(args.device):
        lmm = LlamaForCausalLM._from_config(config, dtype=getattr(torch, args.dtype))
        repeat_layer(lmm.model, layers)
        head = Config.fromfile(HEAD).model
        head.sam.update(model_name=args.sam, checkpoint=None)
        model = FrozenLMM(SyntheticBackbone(lmm, len(shape.sides)), **head)
    return model.train()


def repeat_layer(decoder: Any, layers: int) -> None:
    """Adds layers that have the weights of the first one, until there are as many."""
    weights = decoder.layers[0].state_dict()
    with torch.device("meta"):
        more = [LlamaDecoderLayer(decoder.config, index) for index in range(len(decoder.layers), layers)]
    for layer in more:
        layer.load_state_dict(weights, assign=True)
    decoder.layers.extend(more)
    decoder.config.num_hidden_layers = layers


def make_sample(args: argparse.Namespace, seed: int = 0, more: int = 0) -> dict[str, Any]:
    """A sample with a random picture of 640 x 480; `more` tokens stand after its caption."""
    shape = SHAPES[args.shape]
    generator = torch.Generator().manual_seed(seed)
    caption = torch.arange(PHRASES).repeat_interleave(WORDS)
    image = shape.cells
    prompt = shape.prompt if args.length is None else max(2, args.length - image - len(caption))
    input_ids = torch.randint(3, shape.vocabulary, (prompt + image + len(caption) + more,), generator=generator)
    features = torch.randn(image, shape.width, generator=generator)
    pixels = torch.randint(0, 256, (480, 640, 3), generator=generator, dtype=torch.uint8)
    finest = max(shape.sides)
    frame = {"height": finest, "width": finest}
    nothing = dict.fromkeys(("before_height", "after_height", "before_width", "after_width"), 0)
    return {
        "input_ids": input_ids,
        "mask_ids": torch.cat([torch.full((image + prompt,), -1), caption, torch.full((more,), -1)]),
        "labels": input_ids.index_fill(0, torch.arange(image + prompt), IGNORE_INDEX),
        "pixel_values": features.to(args.device, getattr(torch, args.dtype)),
        "views": [view.to(args.device) for view in views(shape.sides, start=prompt // 2)],
        "image": Image.fromarray(pixels.numpy()),
        "masks": torch.rand(PHRASES, finest * 8, finest * 8, generator=generator) > 0.5,
        "meta_data": {"image_shape": frame, "padded_shape": frame, "padding": nothing},
    }


def retold(sample: dict[str, Any], seed: int) -> dict[str, Any]:
    """A sample that says something else about the same picture."""
    prompt = int((sample["labels"] == IGNORE_INDEX).sum())
    generator = torch.Generator().manual_seed(seed)
    input_ids = sample["input_ids"].clone()
    input_ids[prompt:] = input_ids[prompt:][torch.randperm(len(input_ids) - prompt, generator=generator)]
    return sample | {"input_ids": input_ids}


def views(sides: tuple[int, ...], start: int) -> list[Tensor]:
    """Positions of square views that lie one after the other."""
    sizes = [side * side for side in sides]
    positions = torch.arange(start, start + sum(sizes)).split(sizes)
    return [own.view(side, side) for own, side in zip(positions, sides, strict=True)]
