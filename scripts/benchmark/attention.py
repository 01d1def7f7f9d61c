"""What observing a decoder costs: the reference's way, ours, and no observation at all.

    python scripts/benchmark/attention.py --layers 8 --heads 16 --width 1024 --lengths 2900 --rows 60
    python scripts/benchmark/attention.py --lengths 600 1500 2900 6000 12000 --repeats 1

One process, same weights and inputs. Memory is the peak above what was there before a pass, tensors that it returns
included. The reference's way is left out where its maps alone, L·A·S² numbers, would be larger than `--eager-limit`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import Ratio, Report, compare, options
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from flmm.models.capture import capture
from flmm.models.functional import fold_rows, merge_rows

EAGER, CAPTURE, PLAIN = "eager, output_attentions", "capture", "plain sdpa"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = options(__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--kv-heads", type=int, help="default: as many as heads")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--inner", type=int, help="width of the MLP; default: LLaMA-7B's ratio to the width")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2900], help="tokens of the sequence")
    parser.add_argument("--rows", type=int, default=60, help="phrase tokens, at the end of the sequence")
    parser.add_argument("--phrases", type=int, default=6)
    parser.add_argument("--eager-limit", type=float, default=8, help="GB of maps up to which the reference's way runs")
    return parser


def make_decoder(args: argparse.Namespace) -> LlamaModel:
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=args.width,
        intermediate_size=args.inner or int(args.width * 2.6875),
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads or args.heads,
        max_position_embeddings=max(args.lengths),
    )
    torch.manual_seed(0)
    with torch.device(args.device):
        return LlamaModel._from_config(config, dtype=getattr(torch, args.dtype)).eval()


def ways(decoder: LlamaModel, embeds: Tensor, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The three ways to run the decoder, by name."""
    length = embeds.shape[1]
    rows = torch.arange(length - args.rows, length, device=args.device)
    phrases = torch.arange(args.rows, device=args.device).tensor_split(args.phrases)
    side = int((length - args.rows) ** 0.5)
    view = torch.arange(side * side, device=args.device).view(side, side)

    def eager() -> object:
        decoder.config._attn_implementation = "eager"
        output = decoder(inputs_embeds=embeds, use_cache=False, output_attentions=True, output_hidden_states=True)
        attention = [a[0, :, rows][..., view] for a in output.attentions]
        maps = [merge_rows(m, phrases, "mean") for m in attention]
        return output, maps

    def captured() -> object:
        decoder.config._attn_implementation = "sdpa"

        def keep(weights: Tensor, _: int) -> Tensor:
            return merge_rows(fold_rows(weights, [view])[0], phrases, "mean")

        with capture(decoder, [rows], keep) as result:
            decoder(inputs_embeds=embeds, use_cache=False)
        return result

    def plain() -> object:
        decoder.config._attn_implementation = "sdpa"
        return decoder(inputs_embeds=embeds, use_cache=False)

    maps = args.layers * args.heads * length**2 * embeds.element_size() / 2**30
    reference: dict[str, Callable[[], object]] = {EAGER: eager} if maps <= args.eager_limit else {}
    return {**reference, CAPTURE: captured, PLAIN: plain}


def main() -> None:
    args = arguments().parse_args()
    measured(args).show(args.json)


@torch.no_grad()
def measured(args: argparse.Namespace) -> Report:
    """The ways at each length."""
    torch.set_num_threads(args.threads)
    decoder = make_decoder(args)
    report = Report(
        f"Observing a decoder: L={args.layers} A={args.heads} D={args.width}, {args.rows} rows, {args.dtype}, "
        f"{args.device}",
        ("tokens", "way", "seconds", "x plain", "peak MB", "above plain MB", "x eager's"),
    )
    for length in args.lengths:
        embeds = torch.randn(1, length, args.width, device=args.device, dtype=decoder.dtype)
        costs = compare(ways(decoder, embeds, args), args)
        plain = costs[PLAIN]
        above = {name: cost.megabytes - plain.megabytes for name, cost in costs.items()}
        for name, cost in costs.items():
            share = above[name] / above[EAGER] if EAGER in costs else "-"
            slower = cost.seconds / plain.seconds
            report.rows.append((f"{length:,}", name, cost.seconds, slower, cost.megabytes, above[name], share))
        report.ratios.append(
            Ratio(f"capture's time / plain sdpa's, S={length:,}", costs[CAPTURE].seconds / plain.seconds, 1.15)
        )
        if EAGER in costs:
            share = above[CAPTURE] / above[EAGER]
            report.ratios.append(Ratio(f"capture's extra memory / the reference way's, S={length:,}", share, 0.1))
    return report


if __name__ == "__main__":
    main()
