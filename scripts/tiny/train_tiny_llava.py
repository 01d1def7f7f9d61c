"""Second stage of the tiny LLaVA: the whole model talks about pictures; its tower goes on saying what patches show.

After `train_tower.py`. At a constant rate for as long as there is time (`--steps`), then `--decay` to zero from the
state that was kept. The commands that made the weights in git, and their times, are in docs/tiny_model.md.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from dialogues import THOUGHT
from grounding_probe import measure_pointing
from patch_labels import HEADS, label_words, patch_labels, patch_loss
from precision import autocast, fast_dtype
from scene_pool import make_closeup_pool
from text_pool import IGNORE, Batch, make_texts, pack, prefix_ids
from tiny_parts import IMAGE_SIDE, PATCH, build_model, build_processor, build_tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from tower import Pixels, batches, read_patches, update
from train_tower import UNSEEN_SEED, patch_accuracy
from training_log import Log
from unseen_texts import unseen_texts

from flmm.datasets.shapes.captions import caption, text_of

PAIR_EVERY = 4  # steps
ROWS, PAIR_ROWS = 3, 1
COUNTS = (14, 4, 4)  # texts per whole picture, close-up, pair


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # without, the first steps run fifteen times slower
    log = Log(args.out / "training.log", go_on=args.init is not None)
    trainer = Trainer(args, log)
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

    def __init__(self, args: argparse.Namespace, log: Log) -> None:
        self.tokenizer, self.log, self.out = build_tokenizer(), log, args.out
        self.model = build_model(self.tokenizer)
        self.tower, self.language = self.model.model.vision_tower, self.model.model.language_model
        self.head = nn.Linear(self.tower.config.hidden_size, sum(HEADS))
        self.pool = make_closeup_pool(1_000_000 + args.seed, args.scenes, IMAGE_SIDE, folder=args.pool)
        self.unseen = make_closeup_pool(UNSEEN_SEED, 500, IMAGE_SIDE, folder=args.pool)
        self.texts = make_texts(self.pool, args.seed, COUNTS, file=args.pool / f"texts-{args.scenes}-{args.seed}")
        ends = [THOUGHT, *(text_of(caption(scene)) + "</s>" for scene in self.pool.scenes)]
        thought, *captions = (np.array(ids) for ids in self.tokenizer(ends, add_special_tokens=False).input_ids)
        self.learned = [[ids, thought] for ids in captions]
        self.classes, self.outlines = patch_labels(self.pool, PATCH)
        self.known, _ = patch_labels(self.unseen, PATCH)
        self.pixels = Pixels(build_processor().image_mean, build_processor().image_std)
        self.dtype = fast_dtype()
        tokens = self.model.config.image_seq_length
        self.prefixes = [prefix_ids(self.tokenizer, tokens, pictures) for pictures in (1, 2)]
        vision = [*self.tower.parameters(), *self.head.parameters()]
        language = [*self.model.model.multi_modal_projector.parameters(), *self.model.lm_head.parameters()]
        language += [*self.language.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": language}, {"params": vision}], betas=(0.9, 0.98), weight_decay=0.05
        )
        for part in (self.tower, self.language):
            part.set_attn_implementation("lean")
        self.step, self.tower_learns = 0, args.tower_lr > 0
        log(
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters, {len(self.tokenizer)} words, {self.dtype}"
        )

    def load(self, file: Path, new_tower: bool) -> None:
        """Go on from what `save` kept; with a new tower the optimizer starts from nothing."""
        state = torch.load(file)
        self.model.load_state_dict(state["model"])
        if not new_tower:
            self.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.log(f"went on from step {self.step}")

    def load_tower(self, file: Path) -> None:
        """Take the tower that `train_tower.py` wrote."""
        first = torch.load(file)
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
        words = [torch.cat([torch.zeros(1, len(table[0])), rows]) for rows in words]
        basis = torch.linalg.qr(torch.cat(words).T[:, torch.cat(words).norm(dim=1) > 0]).Q
        projector = self.model.model.multi_modal_projector
        optimizer, mean = torch.optim.AdamW(projector.parameters(), weight_decay=0.01), 0.0
        half = len(self.pool.scenes) // 2
        groups = [(0, half, batch * 3 // 4), (half, half, batch // 4)]
        for step, chosen in enumerate(batches(groups, steps, 5), 1):
            shown = self.classes[chosen][:, [0, 1, 2, 5]].long().clamp(min=0)
            target = sum(rows[shown[:, i]] for i, rows in enumerate(words))
            with torch.no_grad(), autocast(self.dtype):
                features = read_patches(self.tower, self.pixels(self.pool.images[chosen]))
            signs = 1 + 24 * (shown[:, 3] > 0)[..., None] + 4 * (shown[:, 1] > 0)[..., None]
            error = (projector(features.float()) - target) @ basis
            loss = (error**2 * signs).sum() / signs.sum()
            update(loss, optimizer, min(1, 3 * (1 - step / steps)), [2e-3])
            mean += (loss.item() - mean) * max(0.05, 1 / step)
            if step % 100 == 0:
                self.log(f"projector step {step}: {mean:.4f} of {(target**2).sum(-1).mean():.3f}")

    def train(self, args: argparse.Namespace) -> None:
        """Texts about whole pictures and close-ups, every other step also about both together."""
        rng, start, mean = random.Random(args.seed + self.step), self.step, np.zeros(3)
        half = len(self.pool.scenes) // 2
        wide, close, pair_count = args.pictures
        groups = [(0, half, wide), (half, half, close), (0, half, pair_count)]
        for number, chosen in enumerate(batches(groups, args.steps, args.seed + 1 + self.step), 1):
            single, pairs = chosen[: wide + close], chosen[wide + close :]
            loss, patches = self.single_loss(single, rng)
            losses = [loss.item(), patches.item()]
            loss = loss + 0.2 * patches
            if number % PAIR_EVERY == 0:
                pair = self.pair_loss(pairs, half, rng)
                losses.append(pair.item())
                loss = loss + 0.3 * pair
            self.step = start + number
            factor = min(number / 50, 1) * (1 - (number - 1) / args.steps if args.decay else 1)
            update(loss, self.optimizer, factor, [args.lr, args.tower_lr])
            for i, value in enumerate(losses):
                mean[i] += (value - mean[i]) * max(0.02, 1 / number)
            if self.step % 100 == 0:
                self.log(f"step {self.step}: loss of texts {mean[0]:.4f}, patches {mean[1]:.3f}, pairs {mean[2]:.3f}")
            if self.step % 100 == 0:
                self.save()
            if self.step % 600 == 0:
                self.measure()
        self.save()

    def single_loss(self, chosen: np.ndarray, rng: random.Random) -> tuple[Tensor, Tensor]:
        """Next-token loss of texts about pictures, and the loss of their patches."""
        texts, learned = ([pool[i] for i in chosen] for pool in (self.texts.single, self.learned))
        batch = pack(self.prefixes[0], texts, ROWS, self.tokenizer.pad_token_id, rng, learned)
        with autocast(self.dtype):
            with torch.set_grad_enabled(self.tower_learns):
                features = read_patches(self.tower, self.pixels(self.pool.images[chosen]))
                told = self.head(features)
            logits, labels, _ = self.read(batch, features[:, None])
        patches = patch_loss(told.float(), self.classes[chosen], self.outlines[chosen])
        return weighted_loss(logits, labels, batch), patches

    def pair_loss(self, chosen: np.ndarray, half: int, rng: random.Random) -> Tensor:
        """Next-token loss of texts about whole pictures and their close-ups together."""
        batch = pack(
            self.prefixes[1], [self.texts.pairs[i] for i in chosen], PAIR_ROWS, self.tokenizer.pad_token_id, rng
        )
        images = self.pool.images[np.stack([chosen, half + chosen], 1).flatten()]
        with autocast(self.dtype):
            with torch.set_grad_enabled(self.tower_learns):
                features = read_patches(self.tower, self.pixels(images)).unflatten(0, (-1, 2))
            logits, labels, _ = self.read(batch, features)
        return weighted_loss(logits, labels, batch)

    def read(self, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, V] of what the LMM says, their labels [N], and the text [N, 2] (picture, number) each is of.

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
            rows=batch.mask,
        ).last_hidden_state[:, batch.prefix :]
        spoken = batch.labels != IGNORE
        where = torch.stack([spoken.nonzero()[:, 0], batch.texts[spoken]], 1)
        return self.model.lm_head(hidden[spoken]), batch.labels[spoken], where

    @torch.no_grad()
    def measure(self) -> None:
        """Exact answers on unseen scenes by kind of text, patch labels, and where attention points."""
        self.log(patch_accuracy(self.tower, self.head, self.pixels(self.unseen.images[::5]), self.known[::5]))
        right: dict[str, list[bool]] = defaultdict(list)
        for kinds, pictures, texts in unseen_texts(self.tokenizer, self.unseen):
            prefix = self.prefixes[pictures.shape[1] - 1]
            for start in range(0, len(texts), 20):
                part = np.s_[start : start + 20]
                batch = pack(prefix, texts[part], 4, self.tokenizer.pad_token_id)
                images = self.pixels(self.unseen.images[pictures[part].flatten()])
                features = read_patches(self.tower, images).unflatten(0, (-1, pictures.shape[1]))
                logits, labels, where = self.read(batch, features)
                wrong = {tuple(w) for w in where[logits.argmax(-1) != labels].tolist()}
                for picture, number in {tuple(w) for w in where.tolist()}:
                    right[kinds[start + picture][number]].append((picture, number) not in wrong)
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


def weighted_loss(logits: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of what is said, by the weights of its answers."""
    weights = batch.weights[batch.labels != IGNORE]
    return (F.cross_entropy(logits.float(), labels, reduction="none") * weights).sum() / weights.sum()


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
    parser.add_argument("--decay", action="store_true", help="let the rate fall to zero over these steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
