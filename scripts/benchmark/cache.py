"""What the caches of flmm.training.cache make of an epoch: without one, the first with one, and the second with it.

    python scripts/benchmark/cache.py                                        # the embedded model, four pictures
    python scripts/benchmark/cache.py --shape small --sam vit_b --samples 1  # random weights, CPU
    python scripts/benchmark/cache.py --shape llava_1_5_7b --sam vit_l       # random weights, GPU

An epoch is one training step for each sample; its frozen part is what the LMM and SAM's image encoder do in it.
What the second epoch reads is still in the machine's memory, so a slow disk does not show.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measure import Ratio, Report, duration, in_turn, options
from synthetic import add_options, make_model, make_sample

from flmm.config import TINY_CONFIG, build_model, png_dataset, read_config
from flmm.datasets.shapes import make_shapes
from flmm.models.frozen_lmm import FrozenLMM, Sample
from flmm.training.cache import KINDS, TensorCache
from flmm.training.fingerprint import module_digest

WAYS = ("without", "first with", "second with")
EPOCH, FROZEN = "epoch", "its frozen part"


def main() -> None:
    parser = options(__doc__)
    add_options(parser, shape=None, sam="vit_l")
    parser.add_argument("--samples", type=int, default=4, help="samples of an epoch")
    parser.set_defaults(repeats=2)
    parser.add_argument("--folder", type=Path, help="where the cache lies for the time being [the system's default]")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, samples = random_parts(args) if args.shape else embedded_parts(args)
    parts = [part for part in model.modules() if part is model.backbone or part is model.sam.model.image_encoder]
    fingerprint = duration(lambda: [module_digest(part) for part in parts], args.device)
    seconds, used = measure(model, samples, args)
    size = sum(p.numel() * p.element_size() for part in parts for p in part.parameters())
    report = Report(
        f"{args.shape or 'the embedded LLaVA'}, SAM {args.sam if args.shape else 'vit_nano'}, {len(samples)} samples, "
        f"{args.dtype}, {args.device}; fingerprint of {size / 1e6:,.0f} MB of weights: {fingerprint:.2f} s, once a run",
        ("seconds", *(f"{way} cache" for way in WAYS), "first / without", "second / without"),
    )
    for part, (without, first, second) in seconds.items():
        report.rows.append((part, without, first, second, first / without, second / without))
        report.ratios.append(Ratio(f"{part}: second with a cache / without", second / without, 1))
    for kind in KINDS:
        report.rows.append((f"MB a sample on disk, {kind}", "", "", used[kind] / len(samples) / 1e6, "", ""))
    report.show(args.json)


def random_parts(args: argparse.Namespace) -> tuple[FrozenLMM, list[Sample]]:
    """A model of a shape with random weights, and random pictures."""
    return make_model(args), [make_sample(args, seed=seed) for seed in range(args.samples)]


def embedded_parts(args: argparse.Namespace) -> tuple[FrozenLMM, list[Sample]]:
    """The embedded tiny LLaVA with SAM vit_nano, and pictures of shapes."""
    config = read_config(TINY_CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        data = png_dataset(config, make_shapes(f"{folder}/shapes", train=args.samples, val=3), "train")
        samples = [data[index] for index in range(len(data))]
    return build_model(config, device=args.device).train(), samples


def measure(
    model: FrozenLMM, samples: list[Sample], args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Median seconds of WAYS for an epoch and for its frozen part, and bytes on disk by kind."""
    autocast = torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.dtype == "bfloat16")

    def epoch(samples: list[Sample], model: FrozenLMM) -> None:
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
        for sample in samples:
            with autocast:
                terms = model([sample], mode="loss")
            optimizer.zero_grad(set_to_none=True)
            sum(value for name, value in terms.items() if "loss" in name).backward()
            optimizer.step()

    def frozen(samples: list[Sample], model: FrozenLMM) -> None:
        for sample in samples:
            with torch.no_grad(), autocast:
                model.read([sample])
                model.encode([sample["image"]])

    epoch(samples[:1], model)  # warms up
    parts = {EPOCH: partial(epoch, samples), FROZEN: partial(frozen, samples)}
    figures = in_turn({part: partial(in_each_way, model, run, args) for part, run in parts.items()}, args.repeats)
    seconds = {part: own[: len(WAYS)] for part, own in figures.items()}
    return seconds, dict(zip(KINDS, figures[EPOCH][len(WAYS) :], strict=True))


def in_each_way(model: FrozenLMM, run: Callable[[FrozenLMM], None], args: argparse.Namespace) -> list[float]:
    """Seconds of `run` in each of WAYS, with a new cache, and the bytes of each of KINDS that it then holds."""
    seconds = [duration(partial(run, model), args.device)]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        cache = TensorCache(folder, max_gb=1000)
        cached = FrozenLMM(
            model.backbone, model.mask_head, model.loss_mask, model.loss_dice, sam=model.sam, cache=cache
        )
        cached.to(args.device).train()
        cached.read.fingerprint(), cached.encode.fingerprint()  # once a run, so no part of an epoch
        seconds += [duration(partial(run, cached), args.device) for _ in WAYS[1:]]
        used = {kind: size_of(store.folder) for kind, store in cache.stores.items()}
    return seconds + [used[kind] for kind in KINDS]


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


if __name__ == "__main__":
    main()
