"""What a training step and a prediction cost beside the two frozen forward passes that they cannot do without.

    python scripts/benchmark/step.py --length 2900
    python scripts/benchmark/step.py --texts 4                                # a batch of texts about one picture
    python scripts/benchmark/step.py --shape llava_next_7b --sam vit_l        # on a GPU

The floor is a forward pass of the LMM under its fastest attention and of SAM's image encoder, without gradient and with
nothing observed. The reference's way: samples one by one, eager attention, every map, hidden state and logit,
segment-anything 1.0's image encoder, phrases decoded one after the other. Random weights; memory is the peak above the
weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import torch
from measure import Ratio, Report, compare, options
from sam import load_official
from synthetic import add_options, make_model, make_sample, retold
from torch import Tensor

from flmm.models.backbone import Reading
from flmm.models.frozen_lmm import FrozenLMM, Sample
from flmm.models.functional import fold_rows, merge_rows, rows_by_phrase
from flmm.models.mask_head import mask_refiner
from flmm.models.packing import pack

FLOOR, STEP, PREDICTION, REFERENCE = "floor", "training step", "prediction", "reference's training step"
LONG = 2_900  # tokens from which the reference's way has to be so much dearer


def main() -> None:
    args = arguments().parse_args()
    measured(args).show(args.json)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--texts", type=int, default=1, help="samples of a batch, all about one picture")
    parser.add_argument("--no-reference", action="store_true", help="leave the reference's way out")
    return parser


def measured(args: argparse.Namespace) -> Report:
    """The ways to train and to predict."""
    torch.set_num_threads(args.threads)
    model, sample = make_model(args), make_sample(args)
    samples = [sample, *(retold(sample, seed) for seed in range(1, args.texts))]
    autocast = torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.dtype == "bfloat16")

    def floor() -> object:
        with torch.no_grad(), autocast:
            packed = pack(model.backbone, samples) if len(samples) > 1 else None
            tokens = packed.tokens if packed else model.backbone.tokens(sample)
            return model.backbone.decoder(**tokens.inputs, use_cache=False), model.sam.encode([sample["image"]])

    def step() -> None:
        train(model, samples, autocast)

    def prediction() -> list[Tensor]:
        with autocast:
            return model(samples, mode="predict")

    ways: dict[str, Callable[[], object]] = {FLOOR: floor, STEP: step, PREDICTION: prediction}
    if not args.no_reference:
        encoder = official_encoder(model, args)

        def reference() -> None:
            with as_the_reference_does(model, encoder):
                for one in samples:
                    train(model, [one], autocast)

        ways[REFERENCE] = reference
    costs = compare(ways, args)
    length = len(sample["mask_ids"])
    size = f"S={length:,}" if args.texts == 1 else f"{args.texts} texts of S={length:,}"
    report = Report(
        f"{args.shape}, {model.backbone.num_layers} layers, {size}, SAM {args.sam}, {args.dtype}, {args.device}",
        ("way", "seconds", "x floor", "peak MB above the weights"),
    )
    for name, cost in costs.items():
        report.rows.append((name, cost.seconds, cost.seconds / costs[FLOOR].seconds, cost.megabytes))
    for name, limit in ((STEP, 1.10), (PREDICTION, 1.05)):
        report.ratios.append(Ratio(f"{name} / floor, {size}", costs[name].seconds / costs[FLOOR].seconds, limit))
    if REFERENCE in costs and length >= LONG:
        for unit, limit in (("seconds", 2), ("megabytes", 10)):
            ratio = getattr(costs[REFERENCE], unit) / getattr(costs[STEP], unit)
            report.ratios.append(Ratio(f"reference's step / ours, {unit}, {size}", ratio, limit, at_most=False))
    return report


def official_encoder(model: FrozenLMM, args: argparse.Namespace) -> torch.nn.Module:
    """The image encoder of segment-anything 1.0 with the weights of ours; ours for a size that it does not have."""
    ours, registry = model.sam.model.image_encoder, load_official().sam_model_registry
    if args.sam not in registry:
        return ours
    encoder = registry[args.sam]().image_encoder.to(args.device).eval()
    encoder.load_state_dict(ours.state_dict())
    return encoder


def train(model: FrozenLMM, samples: list[Sample], autocast: torch.autocast) -> None:
    """Forward and backward."""
    with autocast:
        terms = model(samples, mode="loss")
        total = sum(value for name, value in terms.items() if "loss" in name)
    total.backward()
    model.zero_grad(set_to_none=True)


def as_the_reference_does(model: FrozenLMM, image_encoder: torch.nn.Module) -> ExitStack:
    """Reads, encodes and decodes in the reference's way until the stack is left."""
    stack = ExitStack()
    stack.enter_context(patch.object(model, "read", lambda samples: [read_eagerly(model, one) for one in samples]))
    stack.enter_context(patch.object(model.sam.model, "image_encoder", image_encoder))
    one_by_one = lambda embeds: [[phrase] for phrase in range(len(embeds))]  # noqa: E731
    stack.enter_context(patch.object(mask_refiner, "group_by_length", one_by_one))
    return stack


@torch.no_grad()
def read_eagerly(model: FrozenLMM, sample: Sample) -> Reading:
    """Asks transformers for all maps, hidden states and logits, and takes what is needed."""
    tokens, lmm = model.backbone.tokens(sample), model.backbone.model
    lmm.set_attn_implementation("eager")
    output = lmm(**tokens.inputs, use_cache=False, output_attentions=True, output_hidden_states=True)
    lmm.set_attn_implementation("sdpa")
    rows = (tokens.mask_ids >= 0).nonzero().flatten()
    phrases = rows_by_phrase(tokens.mask_ids[rows])
    folded = [fold_rows(layer[0, :, rows], tokens.views) for layer in output.attentions]  # L x V x [A, T, h, w]
    merged = [[merge_rows(view, phrases, "mean") for view in maps] for maps in folded]
    hidden = torch.stack([layer[0, rows] for layer in output.hidden_states[1:]])
    return Reading([torch.stack(layers) for layers in zip(*merged, strict=True)], hidden, tokens.mask_ids)


if __name__ == "__main__":
    main()
