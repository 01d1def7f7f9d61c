"""Train the embedded `vit_nano` SAM from scratch on shapes: given boxes, coarse masks or both.

One command, about a quarter of an hour on two CPU cores: `python scripts/tiny/train_nano_sam.py`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from precision import autocast, fast_dtype, set_up
from scene_pool import OUTSIDE, ScenePool, make_pool
from torch import Tensor, nn
from torch.nn import functional as F
from training_log import Log

from flmm.datasets.shapes.captions import caption
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

TARGETS = 4  # phrases per picture and step
UNSEEN_SEED = 10_000_000


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads, args.seed)
    log = Log(args.out.with_suffix(".log"))
    sam = sam_model_registry["vit_nano"](checkpoint=args.init).train()
    side = sam.image_encoder.img_size
    log(f"parameters: {sum(p.numel() for p in sam.parameters()):,}")
    pool = make_pool(2_000_000 + args.seed, args.scenes, side, centered=False)
    unseen = make_pool(UNSEEN_SEED, 100, side, centered=False)
    train(sam.to(device), pool, args, log)
    sam.cpu()
    torch.save({name: value.half() for name, value in sam.state_dict().items()}, args.out)
    sam = sam_model_registry["vit_nano"](checkpoint=args.out)
    for line in measure(sam, unseen):
        log(line)
    log(f"{args.out.stat().st_size:,} bytes")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/sam_vit_nano.pth"))
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--init", type=Path, help="weights to go on from instead of random ones")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="or cuda")
    return parser.parse_args()


def train(sam: Sam, pool: ScenePool, args: argparse.Namespace, log: Log) -> None:
    """AdamW, warm-up over 100 steps, cosine to zero."""
    optimizer = torch.optim.AdamW(sam.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 100, 0.5 * (1 + math.cos(math.pi * s / args.steps)))
    )
    rng, recent, dtype = np.random.default_rng(args.seed), np.zeros(100), fast_dtype(sam.device)
    for step in range(args.steps):
        chosen = rng.integers(len(pool.scenes), size=args.batch)
        masks = torch.stack([draw_targets(pool, i, rng) for i in chosen]).flatten(0, 1).to(sam.device)
        with autocast(dtype):
            logits, quality = segment(sam, prepare(sam, pool, chosen), masks, (0, 1, 2, 1)[step % 4])
        loss = mask_loss(logits.float(), quality.float(), masks)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent[step % 100] = loss.item()
        if (step + 1) % 100 == 0:
            log(f"step {step + 1}: loss {recent.mean():.4f}")


def prepare(sam: Sam, pool: ScenePool, chosen: np.ndarray) -> Tensor:
    """Normalised pictures [N, 3, side, side], zero outside as `Sam.preprocess` makes them."""
    images = torch.from_numpy(pool.images[chosen]).to(sam.device).permute(0, 3, 1, 2)
    inside = torch.from_numpy(pool.regions[chosen] != OUTSIDE).to(sam.device)[:, None]
    return sam.preprocess(images) * inside


def draw_targets(pool: ScenePool, index: int, rng: np.random.Generator) -> Tensor:
    """Masks of `TARGETS` phrases of the caption, bands less often: float [TARGETS, side, side]."""
    phrases = [s.regions for s in caption(pool.scenes[index]) if s.regions]
    weights = np.array([2.0 if min(p) >= 2 else 1.0 for p in phrases])
    picks = rng.choice(len(phrases), size=TARGETS, p=weights / weights.sum())
    return torch.stack([region_mask(pool, index, phrases[i]) for i in picks])


def region_mask(pool: ScenePool, index: int, regions: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.isin(pool.regions[index], regions)).float()


def segment(sam: Sam, images: Tensor, masks: Tensor, prompts: int) -> tuple[Tensor, Tensor]:
    """All mask tokens' logits [B, 4, h, w] and qualities [B, 4]; prompts: 0 both, 1 box, 2 mask."""
    embedding = sam.image_encoder(images).repeat_interleave(len(masks) // len(images), 0)
    coarse = coarse_logits(masks, sam.prompt_encoder.mask_input_size)
    boxes = None if prompts == 2 else jittered_boxes(masks)
    sparse, dense = sam.prompt_encoder(None, boxes, None if prompts == 1 else coarse)
    return sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)


def coarse_logits(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """What a coarse head would say: few cells, noise, a biased threshold; logits [B, 1, *size]."""
    cells, count, device = int(torch.randint(8, 33, ())), len(masks), masks.device
    small = F.adaptive_avg_pool2d(masks[:, None], cells)
    smooth = F.avg_pool2d(small, 3, 1, 1) if torch.rand(()) < 0.5 else small
    noise = F.interpolate(torch.randn(count, 1, 8, 8, device=device), (cells, cells), mode="bilinear")
    shift = 0.15 * torch.randn(count, 1, 1, 1, device=device)
    sharpness = 4 + 12 * torch.rand(count, 1, 1, 1, device=device)
    logits = sharpness * (smooth - 0.45 + shift + 0.12 * noise)
    return F.interpolate(logits, size, mode="bilinear", align_corners=False).clamp(-12, 12)


def jittered_boxes(masks: Tensor, jitter: float = 0.06) -> Tensor:
    """Boxes [B, 4] xyxy around the masks, each side moved by some per cent of the box, and two pixels."""
    boxes = mask_boxes(masks)
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return (boxes + (jitter * size + 2) * torch.randn_like(boxes)).clamp(0, masks.shape[-1])


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes [B, 4] xyxy around the masks [B, h, w]."""
    sides = []
    for across in (masks.amax(1) > 0, masks.amax(2) > 0):
        sides.append((across.float().argmax(1), across.shape[1] - across.flip(1).float().argmax(1)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).float()


def mask_loss(logits: Tensor, quality: Tensor, masks: Tensor) -> Tensor:
    """BCE + dice of the single mask and of the best candidate, and the candidates' predicted IoU."""
    target = F.interpolate(masks[:, None], logits.shape[-2:], mode="area").expand_as(logits)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))
    prob = logits.sigmoid()
    dice = 1 - (2 * (prob * target).sum((2, 3)) + 1) / (prob.sum((2, 3)) + target.sum((2, 3)) + 1)
    each = 5 * bce + dice
    hit, true = logits.detach() > 0, target > 0.5
    iou = (hit & true).sum((2, 3)) / (hit | true).sum((2, 3)).clamp(min=1)
    candidates = each[:, 1:].min(1).values + 0.1 * each[:, 1:].mean(1)  # the mean keeps all three alive
    return (each[:, 0] + candidates).mean() + F.mse_loss(quality, iou)


@torch.no_grad()
def measure(sam: Sam, unseen: ScenePool) -> list[str]:
    """Mean IoU on unseen scenes given true boxes, coarse masks, or both, of things and of stuff."""
    torch.manual_seed(0)
    lines = []
    for prompts, name in enumerate(("box and coarse mask", "true box", "coarse mask")):
        values: dict[str, list[float]] = {"things": [], "stuff": []}
        for index, scene in enumerate(unseen.scenes):
            phrases = [s.regions for s in caption(scene) if s.regions]
            masks = torch.stack([region_mask(unseen, index, p) for p in phrases])
            sparse, dense = sam.prompt_encoder(
                None,
                None if prompts == 2 else mask_boxes(masks),
                None if prompts == 1 else coarse_logits(masks, sam.prompt_encoder.mask_input_size),
            )
            embedding = sam.image_encoder(prepare(sam, unseen, np.array([index])))
            low, _ = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)
            hit = F.interpolate(low, masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
            true = masks > 0.5
            iou = (hit & true).sum((1, 2)) / (hit | true).sum((1, 2))
            for phrase, value in zip(phrases, iou.tolist(), strict=True):
                values["things" if min(phrase) >= 2 else "stuff"].append(value)
        told = ", ".join(f"{kind} {np.mean(v):.3f} ({len(v)})" for kind, v in values.items())
        lines.append(f"mean IoU given {name}: {told}")
    return lines


if __name__ == "__main__":
    main()
