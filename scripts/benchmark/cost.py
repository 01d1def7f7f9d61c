"""The model of cost: floating-point operations and bytes of each part, counted, not timed.

    python scripts/benchmark/cost.py --shape llava_1_5_7b --sam vit_l

Runs the real modules on tensors without data (FakeTensorMode). The floor is what cannot be avoided: forward passes of
the LMM's decoder and of SAM's image encoder. Forward and backward of the head are what training adds.
"""

from __future__ import annotations

import argparse
from unittest.mock import patch

import torch
from measure import Ratio, Report, options
from synthetic import PHRASES, ROWS, SHAPES, WORDS, add_options, make_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from flmm.models.frozen_lmm import FrozenLMM

TEXTS = 7  # sentences about a picture of RefCOCO's validation set, on average


def main() -> None:
    parser = options(__doc__)
    add_options(parser, shape="llava_1_5_7b", sam="vit_l")
    parser.set_defaults(device="cpu", dtype="bfloat16")
    args = parser.parse_args()
    shape, rows = SHAPES[args.shape], ROWS
    cells, side, length = shape.cells, max(shape.sides), args.length or shape.length
    with FakeTensorMode():
        model = make_model(args)
        parts = {
            "LMM decoder, forward": (lmm(model, length), weights(model.backbone)),
            "SAM image encoder, forward": (encoder(model), weights(model.sam.model.image_encoder)),
            "attention rows of the phrases": (capture(model, length, rows), 0),
            "U-Net, forward and backward": (unet(model, side), weights(model.mask_head)),
            "SAM decoder, forward and backward": (decoder(model), weights(model.sam.model.mask_decoder)),
        }
        texts = lmm(model, length + (TEXTS - 1) * rows)
    lmm_dims = (model.backbone.num_layers, model.backbone.num_heads, model.backbone.hidden_size)
    floor = sum(flops for name, (flops, _) in parts.items() if name.endswith(", forward"))
    report = Report(
        f"{args.shape}, S={length:,}, {PHRASES} phrases of {WORDS} tokens, SAM {args.sam}",
        ("part", "TFLOP", "share of the floor", "weights GB"),
    )
    for name, (flops, size) in parts.items():
        report.rows.append((name, flops / 1e12, f"{flops / floor:.2%}", size / 2**30))
    kept, maps = observed(*lmm_dims, length, rows, cells)
    report.rows.append(("kept while reading, bytes", f"{kept / 2**20:,.1f} MB", "", ""))
    report.rows.append(("maps that the reference keeps", f"{maps / 2**20:,.0f} MB", f"{maps / kept:,.0f} x", ""))
    total = sum(flops for flops, _ in parts.values())
    report.ratios.append(Ratio(f"training step / floor in FLOP, {args.shape}", total / floor, 1.1))
    share = (texts + parts["SAM image encoder, forward"][0]) / (TEXTS * floor)
    report.ratios.append(Ratio(f"{TEXTS} texts about one picture, frozen parts: together / one by one", share, 0.5))
    report.show(args.json)


def floor(args: argparse.Namespace, length: int) -> tuple[int, int]:
    """Operations of a forward pass of the decoder, and of SAM's image encoder, for a sequence and a picture."""
    args = argparse.Namespace(**{**vars(args), "device": "cpu"})
    with FakeTensorMode():
        model = make_model(args)
        return lmm(model, length), encoder(model)


def weights(module: torch.nn.Module) -> int:
    """Bytes."""
    return sum(p.numel() * p.element_size() for p in module.parameters())


@torch.no_grad()
def lmm(model: FrozenLMM, length: int) -> int:
    embeds = torch.empty(1, length, model.backbone.hidden_size, dtype=model.backbone.model.dtype)
    with FlopCounterMode(display=False) as counted:
        model.backbone.decoder(inputs_embeds=embeds, use_cache=False)
    return counted.get_total_flops()


@torch.no_grad()
def encoder(model: FrozenLMM) -> int:
    side = model.sam.image_size
    with FlopCounterMode(display=False) as counted:
        model.sam.model.image_encoder(torch.empty(1, 3, side, side))
    return counted.get_total_flops()


def capture(model: FrozenLMM, length: int, rows: int) -> int:
    """One more product of queries and keys in every layer, of some rows only."""
    return 2 * model.backbone.num_layers * rows * length * model.backbone.hidden_size


def unet(model: FrozenLMM, side: int) -> int:
    maps = torch.empty(PHRASES, model.mask_head.in_channels, side, side)
    # checks the range of its input, which has no values here
    with FlopCounterMode(display=False) as counted, patch.object(model.mask_head, "normalize_input", False):
        model.mask_head(maps).sum().backward()
    return counted.get_total_flops()


def decoder(model: FrozenLMM) -> int:
    sam = model.sam.model
    features = torch.empty(1, sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)
    prompts = {
        "boxes": torch.empty(PHRASES, 4),
        "masks": torch.empty(PHRASES, 1, *sam.prompt_encoder.mask_input_size),
        "text_embeds": torch.empty(PHRASES, WORDS, sam.prompt_encoder.embed_dim),
    }
    with FlopCounterMode(display=False) as counted:
        model.sam._decode_group(features, PHRASES, **prompts).sum().backward()
    return counted.get_total_flops()


def observed(layers: int, heads: int, width: int, length: int, rows: int, cells: int) -> tuple[int, int]:
    """Bytes that the capture keeps (merged maps, phrase rows), and those of all maps, in two bytes each."""
    kept = layers * (heads * PHRASES * cells + rows * width)
    return 2 * kept, 2 * layers * heads * length**2


if __name__ == "__main__":
    main()
