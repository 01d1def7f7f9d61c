"""What it costs to keep, while the LMM answers, what its words attend to.

    python scripts/benchmark/generate.py --shape small --tokens 60

Plain `generate` and the captured one give the same tokens; the second keeps the attention of each to the picture and
its hidden states. The reference's way, `output_attentions` in eager mode, stands beside them.
"""

from __future__ import annotations

import argparse

import torch
from measure import Ratio, Report, compare, options
from synthetic import add_options, make_model, make_sample

PLAIN, CAPTURED, EAGER = "plain generate", "captured", "eager, output_attentions"


def main() -> None:
    args = arguments().parse_args()
    measured(args).show(args.json)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = options(__doc__)
    add_options(parser, sam="vit_nano")
    parser.add_argument("--tokens", type=int, default=60, help="tokens of the answer")
    return parser


def measured(args: argparse.Namespace) -> Report:
    """The ways to answer."""
    torch.set_num_threads(args.threads)
    model, sample = make_model(args), make_sample(args)
    sample["mask_ids"] = torch.full_like(sample["mask_ids"], -1)
    lmm, prompt = model.backbone.model, model.backbone.prompt(sample).inputs
    rules = {"do_sample": False, "min_new_tokens": args.tokens, "pad_token_id": 0}

    def plain() -> torch.Tensor:
        with torch.no_grad():
            return lmm.generate(**prompt, max_new_tokens=args.tokens, **rules)

    def captured() -> object:
        return model.read.generate(sample, args.tokens - 1, **rules)  # it generates one more than it returns

    def eager() -> object:
        lmm.set_attn_implementation("eager")
        everything = {"output_attentions": True, "output_hidden_states": True, "return_dict_in_generate": True}
        with torch.no_grad():
            output = lmm.generate(**prompt, max_new_tokens=args.tokens, **rules, **everything)
        lmm.set_attn_implementation("sdpa")
        return output

    assert torch.equal(plain()[0, :-1], captured().token_ids)
    costs = compare({EAGER: eager, CAPTURED: captured, PLAIN: plain}, args)
    report = Report(
        f"Answer of {args.tokens} tokens: {args.shape}, S={len(sample['mask_ids']):,}, {args.dtype}, {args.device}",
        ("way", "seconds", "x plain", "peak MB"),
    )
    for name, cost in costs.items():
        report.rows.append((name, cost.seconds, cost.seconds / costs[PLAIN].seconds, cost.megabytes))
    ratio = costs[CAPTURED].seconds / costs[PLAIN].seconds
    report.ratios.append(Ratio("captured generation / plain", ratio, 1.1))
    return report


if __name__ == "__main__":
    main()
