"""First stage of the tiny LLaVA: its vision tower says what each patch shows, close-ups with their signs included."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from patch_labels import HEADS, LABELS, RELATIONS, UNKNOWN, Labeled, is_related, patch_loss, split_heads
from precision import autocast, fast_dtype, set_up
from scene_pool import make_closeup_pool
from tiny_parts import IMAGE_SIDE, PATCH, build_model, build_processor, build_tokenizer
from torch import Tensor, nn
from tower import Pixels, draw, read_patches, update
from training_log import Log

FIFTH = slice(None, None, 5)  # of the unseen scenes, on which patches are measured
UNSEEN_SEED = 10_000_000  # scenes for measuring; the shapes data set and training use lower seeds


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads, args.seed)
    log = Log(args.out.with_suffix(".log"), go_on=args.init is not None)
    model = build_model(build_tokenizer())
    tower = model.model.vision_tower
    tower.set_attn_implementation("lean")
    head = nn.Linear(tower.config.hidden_size, sum(HEADS))
    if args.init:
        earlier = torch.load(args.init, map_location="cpu")
        tower.load_state_dict(earlier["tower"])
        grow(head, earlier["head"])
    pool = make_closeup_pool(1_000_000 + args.seed, args.scenes, IMAGE_SIDE, folder=args.pool)
    unseen = make_closeup_pool(UNSEEN_SEED, 500, IMAGE_SIDE, folder=args.pool)
    shown, asked = (Labeled.of(part, PATCH, device) for part in (pool, unseen.part(FIFTH)))
    pixels, dtype = Pixels(build_processor().image_mean, build_processor().image_std, device), fast_dtype(device)
    tower, head = tower.to(device), head.to(device)
    log(f"{sum(p.numel() for p in tower.parameters()):,} parameters, {args.scenes} scenes, {dtype} on {device}")
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()], betas=(0.9, 0.98), weight_decay=0.05)
    mean = torch.zeros((), device=device)
    for step in range(1, args.steps + 1):
        chosen = torch.from_numpy(draw(args.scenes, args.wide, args.close, args.seed, step))
        with autocast(dtype):
            told = head(read_patches(tower, pixels(shown.images[chosen])))
        loss = patch_loss(told.float(), shown.classes[chosen], shown.outlines[chosen])
        # warm-up, then a cosine to a tenth: the second stage goes on from there
        factor = min(step / 100, 0.1 + 0.45 * (1 + math.cos(math.pi * step / args.steps)))
        update(loss, optimizer, factor, [args.lr])
        mean += (loss.detach() - mean) * max(0.02, 1 / step)
        if step % 100 == 0 or step == args.steps:
            log(f"step {step}: loss {mean:.3f}, {patch_accuracy(tower, head, pixels(asked.images), asked.classes)}")
            torch.save({"tower": tower.state_dict(), "head": head.state_dict()}, args.out)


@torch.no_grad()
def grow(head: nn.Linear, earlier: dict[str, Tensor]) -> None:
    """Take over the rows that an earlier head had; labels added since start at zero."""
    for name, parameter in head.named_parameters():
        parameter.zero_()[: len(earlier[name])] = earlier[name]


@torch.no_grad()
def patch_accuracy(tower: nn.Module, head: nn.Module, pixel_values: Tensor, classes: Tensor) -> str:
    """Share of right classes among the shape patches of unseen pictures, of signs among the sign patches."""
    labels, _, related = split_heads(head(read_patches(tower, pixel_values)))
    relations, right = classes[:, len(LABELS) :], []
    for i, part in enumerate(labels):
        asked = (classes[:, 5] > 0) if i == 5 else (classes[:, 1] > 0) & (classes[:, i] != UNKNOWN)
        right.append((part.argmax(-1) == classes[:, i])[asked].float().mean())
    shown = is_related(relations)
    shares = [(part.argmax(-1) == relations[:, i])[shown].float().mean() for i, part in enumerate(related)]
    told = ", ".join(f"{name} {share:.3f}" for name, share in zip(RELATIONS, shares, strict=True))
    return f"unseen {'/'.join(LABELS)} {'/'.join(f'{r:.3f}' for r in right)}; {told}"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/tiny_llava/tower.pth"))
    parser.add_argument("--pool", type=Path, default=Path("work_dirs/tiny_llava/pool"), help="where pictures are kept")
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--wide", type=int, default=20, help="whole pictures per step")
    parser.add_argument("--close", type=int, default=12, help="close-ups per step")
    parser.add_argument("--init", type=Path, help="what an earlier run wrote, to go on from")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="or cuda")
    return parser.parse_args()


if __name__ == "__main__":
    main()
