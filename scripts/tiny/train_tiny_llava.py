"""Second stage of the tiny LLaVA: the whole model talks about pictures; its tower goes on saying what patches show.

After `train_tower.py`. The rate stays for as long as there is time (`--steps`) and falls to zero at last (`--decay`).
The commands that made the weights in git, and their times, are in docs/tiny_model.md.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from grounding_probe import measure_pointing
from patch_labels import HEADS, Labeled, label_words, patch_loss
from precision import autocast, fast_dtype, set_up
from scene_pool import make_closeup_pool
from text_batches import Batch, Step, Steps, pack, prefix_ids
from tiny_parts import IMAGE_SIDE, PATCH, build_model, build_processor, build_tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tower import Pixels, draw, read_patches, update
from train_tower import FIFTH, UNSEEN_SEED, patch_accuracy
from training_log import Log
from unseen_texts import unseen_texts


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads, args.seed)
    log = Log(args.out / "training.log", go_on=args.init is not None)
    trainer = Trainer(args, device, log)
    if args.init:
        trainer.load(args.init, new_tower=args.tower is not None)
    if args.tower:
        trainer.load_tower(args.tower)
    if not args.init:
        trainer.align_projector()
    trainer.train(args)
    trainer.finish()


class Trainer:
    """The model, what it is shown, and the second stage. `head` reads patch labels and is thrown away."""

    def __init__(self, args: argparse.Namespace, device: torch.device, log: Log) -> None:
        self.tokenizer, self.device, self.log, self.out = build_tokenizer(), device, log, args.out
        self.pool = make_closeup_pool(1_000_000 + args.seed, args.scenes, IMAGE_SIDE, folder=args.pool)
        self.unseen = make_closeup_pool(UNSEEN_SEED, 500, IMAGE_SIDE, folder=args.pool)
        self.shown, self.asked = (Labeled.of(pool, PATCH, device) for pool in (self.pool, self.unseen))
        self.pixels = Pixels(build_processor().image_mean, build_processor().image_std, device)
        self.model = build_model(self.tokenizer).to(device)
        self.tower, self.language = self.model.model.vision_tower, self.model.model.language_model
        self.head = nn.Linear(self.tower.config.hidden_size, sum(HEADS)).to(device)
        self.dtype = fast_dtype(device)
        vision = [*self.tower.parameters(), *self.head.parameters()]
        language = [*self.model.model.multi_modal_projector.parameters(), *self.model.lm_head.parameters()]
        language += [*self.language.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": language}, {"params": vision}], betas=(0.9, 0.98), weight_decay=0.05
        )
        for part in (self.tower, self.language):
            part.set_attn_implementation("lean")
        self.step, self.tower_learns = 0, args.tower_lr > 0
        parameters = sum(p.numel() for p in self.model.parameters())
        log(f"{parameters:,} parameters, {len(self.tokenizer)} words, {self.dtype} on {device}")

    def load(self, file: Path, new_tower: bool) -> None:
        """Go on from what `save` kept; with a new tower the optimizer starts from nothing."""
        state = torch.load(file, map_location="cpu")
        self.model.load_state_dict(state["model"])
        if not new_tower:
            self.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.log(f"went on from step {self.step}")

    def load_tower(self, file: Path) -> None:
        """Take the tower that `train_tower.py` wrote."""
        first = torch.load(file, map_location="cpu")
        self.tower.load_state_dict(first["tower"])
        self.head.load_state_dict(first["head"])

    def save(self) -> None:
        """Keep all that the training needs to go on."""
        state = {"model": self.model.state_dict(), "step": self.step}
        state |= {"tower": self.tower.state_dict(), "head": self.head.state_dict()}  # as train_tower.py keeps them
        file = self.out / "state.pth"
        torch.save({**state, "optimizer": self.optimizer.state_dict()}, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)

    def align_projector(self, steps: int = 300, batch: int = 48) -> None:
        """Teach the projector to put each patch near the words for what it shows; other directions stay free."""
        table = self.model.get_input_embeddings().weight.detach()
        words = [table[self.tokenizer.convert_tokens_to_ids(names)] for names in label_words()]
        words = [torch.cat([torch.zeros_like(rows[:1]), rows]) for rows in words]
        basis = torch.linalg.qr(torch.cat(words).T[:, torch.cat(words).norm(dim=1) > 0]).Q
        projector = self.model.model.multi_modal_projector
        optimizer, mean = torch.optim.AdamW(projector.parameters(), weight_decay=0.01), 0.0
        half = len(self.pool.scenes) // 2
        for step in range(1, steps + 1):
            chosen = torch.from_numpy(draw(half, batch * 3 // 4, batch // 4, 5, step))
            shown = self.shown.classes[chosen][:, [0, 1, 2, 5]].long().clamp(min=0)
            target = sum(rows[shown[:, i]] for i, rows in enumerate(words))
            with torch.no_grad(), autocast(self.dtype):
                features = read_patches(self.tower, self.pixels(self.shown.images[chosen]))
            signs = 1 + 24 * (shown[:, 3] > 0)[..., None] + 4 * (shown[:, 1] > 0)[..., None]
            error = (projector(features.float()) - target) @ basis
            loss = (error**2 * signs).sum() / signs.sum()
            update(loss, optimizer, min(1, 3 * (1 - step / steps)), [2e-3])
            mean += (loss.item() - mean) * max(0.05, 1 / step)
            if step % 100 == 0:
                self.log(f"projector step {step}: {mean:.4f} of {(target**2).sum(-1).mean():.3f}")

    def train(self, args: argparse.Namespace) -> None:
        """Texts about whole pictures and close-ups, in some steps also about both together."""
        numbers = range(self.step + 1, self.step + 1 + args.steps)
        steps = Steps(
            self.pool, self.tokenizer, self.model.config.image_seq_length, tuple(args.pictures), numbers, args.seed
        )
        loader = DataLoader(steps, batch_size=None, num_workers=args.workers)
        mean = torch.zeros(3, device=self.device)
        for number, step in enumerate(loader, 1):
            losses = [*self.single_loss(step), self.pair_loss(step) if step.pair else mean[2].clone()]
            loss = losses[0] + 0.2 * losses[1] + (0.3 * losses[2] if step.pair else 0)
            self.step = numbers[number - 1]
            left = (args.steps - number + 1) / args.steps
            update(loss, self.optimizer, min(number / 100, 1, left / (args.decay or left)), [args.lr, args.tower_lr])
            mean += (torch.stack(losses).detach() - mean) * max(0.02, 1 / number)
            if self.step % 100 == 0:
                texts, patches, pairs = mean.tolist()
                self.log(f"step {self.step}: loss of texts {texts:.4f}, patches {patches:.3f}, pairs {pairs:.3f}")
            if self.step % args.save_every == 0:
                self.save()
            if self.step % args.measure_every == 0:
                self.measure()
        self.save()

    def single_loss(self, step: Step) -> tuple[Tensor, Tensor]:
        """Next-token loss of texts about pictures, and the loss of their patches."""
        chosen = torch.from_numpy(step.pictures)
        batch = step.single.to(self.device)
        with autocast(self.dtype):
            with torch.set_grad_enabled(self.tower_learns):
                features = read_patches(self.tower, self.pixels(self.shown.images[chosen]))
                told = self.head(features)
            logits = self.read(batch, features[:, None])
        patches = patch_loss(told.float(), self.shown.classes[chosen], self.shown.outlines[chosen])
        return weighted_loss(logits, batch), patches

    def pair_loss(self, step: Step) -> Tensor:
        """Next-token loss of texts about whole pictures and their close-ups together."""
        chosen, batch = step.pair[0], step.pair[1].to(self.device)
        both = torch.from_numpy(np.stack([chosen, len(self.pool.scenes) // 2 + chosen], 1).flatten())
        with autocast(self.dtype):
            with torch.set_grad_enabled(self.tower_learns):
                features = read_patches(self.tower, self.pixels(self.shown.images[both])).unflatten(0, (-1, 2))
            return weighted_loss(self.read(batch, features), batch)

    def read(self, batch: Batch, features: Tensor) -> Tensor:
        """Logits [N, V] of what the LMM says.

        Args:
            batch: Prefixes and rows.
            features: [B, pictures, h * w, D].
        """
        # float32 between the layers: in bfloat16 what one layer adds is lost to rounding
        images = self.model.model.multi_modal_projector(features).float()
        embeds = self.model.get_input_embeddings()(batch.ids)
        image = batch.ids == self.model.config.image_token_id
        embeds = embeds.masked_scatter(image[..., None], images)
        hidden = self.language(
            inputs_embeds=embeds,
            position_ids=batch.positions,
            use_cache=False,
            prefix=batch.prefix,
            rows=batch.mask(),
        ).last_hidden_state[:, batch.prefix :]
        return self.model.lm_head(hidden.flatten(0, 1)[batch.spoken])

    @torch.no_grad()
    def measure(self) -> None:
        """Exact answers on unseen scenes by kind of text, patch labels, and where attention points."""
        asked = self.pixels(self.asked.images[FIFTH])
        self.log(patch_accuracy(self.tower, self.head, asked, self.asked.classes[FIFTH]))
        right: dict[str, list[bool]] = defaultdict(list)
        for kinds, pictures, texts in unseen_texts(self.tokenizer, self.unseen):
            prefix = prefix_ids(self.tokenizer, self.model.config.image_seq_length, pictures.shape[1])
            for start in range(0, len(texts), 20):
                part = np.s_[start : start + 20]
                batch = pack(prefix, texts[part], 4, self.tokenizer.pad_token_id).to(self.device)
                images = self.pixels(self.asked.images[torch.from_numpy(pictures[part].flatten())])
                features = read_patches(self.tower, images).unflatten(0, (-1, pictures.shape[1]))
                hits = self.read(batch, features).argmax(-1) == batch.labels
                for (picture, number), hit in exact(batch, hits).items():
                    right[kinds[start + picture][number]].append(hit)
        self.log("exact: " + ", ".join(f"{kind} {np.mean(v):.3f} ({len(v)})" for kind, v in right.items()))
        for line in measure_pointing(self.model, self.tokenizer, self.pixels, self.unseen, 60):
            self.log(line)

    def finish(self) -> None:
        """Save in half precision and measure what was saved."""
        self.model.half().save_pretrained(self.out)
        self.tokenizer.save_pretrained(self.out)
        build_processor().save_pretrained(self.out)
        self.model.float()
        self.measure()


def weighted_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of what is said, by the weights of its answers."""
    losses = F.cross_entropy(logits.float(), batch.labels, reduction="none")
    return (losses * batch.weights).sum() / batch.weights.sum()


def exact(batch: Batch, hits: Tensor) -> dict[tuple[int, int], bool]:
    """Whether all that is said in a text, (picture, its number), is a hit."""
    found: dict[tuple[int, int], bool] = {}
    numbers = batch.texts.flatten()[batch.spoken].tolist()
    pictures = (batch.spoken // batch.texts[0].numel()).tolist()
    for picture, number, hit in zip(pictures, numbers, hits.tolist(), strict=True):
        found[picture, number] = found.get((picture, number), True) and hit
    return found


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/tiny_llava"))
    parser.add_argument("--tower", type=Path, help="of train_tower.py, in place of the one in --init")
    parser.add_argument("--pool", type=Path, default=Path("work_dirs/tiny_llava/pool"), help="where pictures are kept")
    parser.add_argument("--scenes", type=int, default=20_000, help="training scenes")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument(
        "--pictures", type=int, nargs=3, default=(18, 6, 6), help="whole pictures, close-ups, pairs per step"
    )
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--tower-lr", type=float, default=0.0, help="0 leaves the tower as it is")
    parser.add_argument("--init", type=Path, help="state.pth to go on from")
    parser.add_argument("--decay", type=float, default=0, help="share of the steps over which the rate falls to zero")
    parser.add_argument("--save-every", type=int, default=100, help="steps")
    parser.add_argument("--measure-every", type=int, default=600, help="steps")
    parser.add_argument("--workers", type=int, default=0, help="processes that make texts")
    parser.add_argument("--device", default="cpu", help="or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
