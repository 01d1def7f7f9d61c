"""Train the embedded tiny LLaVA from scratch: vision tower on patch labels, then captions in reading order.

About an hour on one or two CPU cores. The two commands are in docs/tiny_model.md: all from scratch, then some more.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path

import numpy as np
import torch
from grounding_probe import measure_grounding
from patch_labels import HEADS, LABELS, patch_labels, patch_loss
from scene_pool import ScenePool, make_pool
from tiny_parts import PROMPT, build_model, build_processor, build_tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from training_log import Log
from transformers import AttentionInterface, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from flmm.datasets.shapes_scene import Scene, caption, expressions

UNSEEN_SEED = 10_000_000  # scenes for measuring; the shapes data set and training use lower seeds
IGNORE = -100


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # without, the first steps run fifteen times slower
    AttentionInterface.register("lean", lean_attention)
    log = Log(args.out / "training.log", go_on=args.init is not None)
    model = build_model(build_tokenizer())
    side = model.config.vision_config.image_size
    log(f"parameters: {sum(p.numel() for p in model.parameters()):,}")
    pool = make_pool(first_seed=1_000_000 + args.seed, count=args.scenes, side=side)
    unseen = make_pool(first_seed=UNSEEN_SEED, count=args.unseen, side=side)
    log(f"drew {args.scenes} + {args.unseen} scenes")
    trainer = Trainer(model, pool, unseen, log)
    if args.init:
        trainer.go_on_from(args.init, args.batch, args.seed)
    else:
        trainer.train_vision(args.vision_steps, args.batch, args.seed)
    trainer.train_whole(args.steps, args.batch, args.seed, args.lr)
    finish(trainer, args.out)


def finish(trainer: Trainer, folder: Path) -> None:
    """Save in half precision and measure what was saved."""
    trainer.model.half().save_pretrained(folder)
    trainer.tokenizer.save_pretrained(folder)
    build_processor().save_pretrained(folder)
    trainer.model.float()
    count = len(trainer.unseen.scenes)
    trainer.log(f"exact captions: {trainer.exact_captions(count):.4f} of {count} unseen scenes")
    probed = min(100, count)
    for line in measure_grounding(folder, trainer.tokenizer, trainer.pixels, trainer.unseen, probed):
        trainer.log(line)
    trainer.log(f"{sum(file.stat().st_size for file in folder.iterdir()):,} bytes")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/tiny_llava"))
    parser.add_argument("--scenes", type=int, default=24_000, help="training scenes")
    parser.add_argument("--unseen", type=int, default=500, help="scenes for measuring")
    parser.add_argument("--vision-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3, help="of the second stage")
    parser.add_argument("--init", type=Path, help="trained folder to go on from, instead of the first stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


class Pixels:
    """uint8 pictures [N, H, W, 3] to normalised float tensors [N, 3, H, W]."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))

    def __call__(self, images: np.ndarray) -> Tensor:  # noqa: D102
        return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - self.mean) / self.std


class Trainer:
    """The model, what it is shown, and the two stages. `head` reads patch labels and is thrown away."""

    def __init__(self, model: LlavaForConditionalGeneration, pool: ScenePool, unseen: ScenePool, log: Log) -> None:
        processor = build_processor()
        self.model, self.pool, self.unseen, self.log = model, pool, unseen, log
        self.tower, self.tokenizer = model.model.vision_tower, build_tokenizer()
        self.pixels = Pixels(processor.image_mean, processor.image_std)
        self.head = nn.Linear(self.tower.config.hidden_size, sum(HEADS))
        patch = self.tower.config.patch_size
        self.classes, self.outlines = patch_labels(pool, patch)
        self.unseen_classes, _ = patch_labels(unseen, patch)

    def train_vision(self, steps: int, batch: int, seed: int) -> None:
        """Say what each patch shows, from the layer LLaVA reads."""
        parameters = [*self.tower.parameters(), *self.head.parameters()]
        optimizer, schedule = make_optimizer([{"params": parameters, "lr": 1e-3}], steps)
        self.attend("lean")
        for step, chosen in enumerate(batches(len(self.pool.scenes), batch, steps, seed)):
            with torch.autocast("cpu", torch.bfloat16):
                told = self.head(read_patches(self.tower, self.pixels(self.pool.images[chosen])))
            loss = patch_loss(told.float(), self.classes[chosen], self.outlines[chosen])
            update(loss, optimizer, schedule)
            if (step + 1) % 200 == 0:
                self.log(f"vision step {step + 1}: loss {loss.item():.3f}, {self.patch_accuracy()}")

    def go_on_from(self, folder: Path, batch: int, seed: int) -> None:
        """Take a trained model's weights, and fit the patch head, which is not saved, to its features."""
        trained = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model.load_state_dict(trained.state_dict())
        optimizer, schedule = make_optimizer([{"params": [*self.head.parameters()], "lr": 1e-2}], 150)
        self.attend("lean")
        for chosen in batches(len(self.pool.scenes), batch, 150, seed):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                features = read_patches(self.tower, self.pixels(self.pool.images[chosen]))
            loss = patch_loss(self.head(features.float()), self.classes[chosen], self.outlines[chosen])
            update(loss, optimizer, schedule)
        self.log(f"went on from {folder}: {self.patch_accuracy()}")

    def train_whole(self, steps: int, batch: int, seed: int, lr: float) -> None:
        """Tell about the pictures, while the tower goes on saying what each patch shows."""
        vision = [*self.tower.parameters(), *self.head.parameters()]
        language = [*self.model.model.multi_modal_projector.parameters(), *self.model.lm_head.parameters()]
        language += [*self.model.model.language_model.parameters()]
        groups = [{"params": language, "lr": lr}, {"params": vision, "lr": lr / 2}]
        optimizer, schedule = make_optimizer(groups, steps)
        rng, mean = random.Random(seed), 0.0
        for step, chosen in enumerate(batches(len(self.pool.scenes), batch, steps, seed + 1)):
            self.attend("lean")
            texts = [sample_text(self.pool.scenes[i], rng) for i in chosen]
            with torch.autocast("cpu", torch.bfloat16):
                features = read_patches(self.tower, self.pixels(self.pool.images[chosen]))
                told = self.head(features)
                loss = text_loss(self.model, self.tokenizer, features, texts)
            patches = patch_loss(told.float(), self.classes[chosen], self.outlines[chosen])
            update(loss + 0.2 * patches, optimizer, schedule)
            mean += (loss.item() - mean) * max(0.02, 1 / (step + 1))
            if (step + 1) % 100 == 0:
                self.log(f"step {step + 1}: text loss {mean:.4f}, patch loss {patches.item():.3f}")
            if (step + 1) % 250 == 0:
                self.log(f"{self.patch_accuracy()}, exact captions {self.exact_captions(50):.2f} of 50")

    def attend(self, how: str) -> None:
        """Choose the attention function of both towers."""
        for part in (self.tower, self.model.model.language_model):
            part.set_attn_implementation(how)

    @torch.no_grad()
    def patch_accuracy(self) -> str:
        """Share of right classes among the shape patches of 200 unseen scenes."""
        parts = self.head(read_patches(self.tower, self.pixels(self.unseen.images[:200]))).split(HEADS, dim=-1)
        classes = self.unseen_classes[:200]
        shape = classes[:, 1] > 0
        right = [(p.argmax(-1) == classes[:, i])[shape].float().mean() for i, p in enumerate(parts[:5])]
        return f"unseen {'/'.join(LABELS)} {'/'.join(f'{r:.3f}' for r in right)}"

    @torch.no_grad()
    def exact_captions(self, count: int) -> float:
        """Share of pictures whose greedily generated caption equals the true one, word for word."""
        self.attend("sdpa")
        prompt = PROMPT.replace("<image>", "<image>" * self.model.config.image_seq_length)
        right = 0
        for start in range(0, count, 50):
            scenes = self.unseen.scenes[start : min(start + 50, count)]
            ids = torch.tensor([self.tokenizer.encode(prompt)] * len(scenes))
            out = self.model.generate(
                input_ids=ids,
                pixel_values=self.pixels(self.unseen.images[start : start + len(scenes)]),
                max_new_tokens=48,
                do_sample=False,
            )
            told = self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
            true = [" ".join(segment.utterance for segment in caption(scene)) for scene in scenes]
            right += sum(a == b for a, b in zip(told, true, strict=True))
        return right / count


def read_patches(tower: nn.Module, pixel_values: Tensor) -> Tensor:
    """Patch features of the last layer but one, [N, h * w, D]; LLaVA ignores the last, so it is not run."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixel_values))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None)
    return hidden[:, 1:]


def sample_text(scene: Scene, rng: random.Random) -> str:
    """The caption three times in four, else some referring expressions, each ended by a full stop."""
    if rng.random() < 0.75:
        return " ".join(segment.utterance for segment in caption(scene))
    order = [i for i in range(len(scene.shapes)) if expressions(scene, i)]
    if not order:
        return " ".join(segment.utterance for segment in caption(scene))
    rng.shuffle(order)
    chosen = order[: rng.randint(1, len(order))]
    return " ".join(f"{rng.choice(expressions(scene, i))}." for i in chosen)


def text_loss(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    features: Tensor,
    texts: list[str],
) -> Tensor:
    """Next-token loss on the texts. Padding stands right of the text, where causal attention never looks."""
    ids = [tokenizer.encode(text, add_special_tokens=False) + [tokenizer.eos_token_id] for text in texts]
    longest = max(map(len, ids))
    tokens = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in ids])
    labels = torch.tensor([row + [IGNORE] * (longest - len(row)) for row in ids])
    embeds = embed(model, tokenizer, features, tokens[:, :-1])
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[:, -longest:]).float()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


def embed(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, features: Tensor, tokens: Tensor
) -> Tensor:
    """Prompt with the image in place, then the tokens: [N, S, D]."""
    table = model.get_input_embeddings()
    prompt = tokenizer.encode(PROMPT)
    place = prompt.index(model.config.image_token_id)
    before, after = (
        table(torch.tensor(part)).expand(len(tokens), -1, -1) for part in (prompt[:place], prompt[place + 1 :])
    )
    image = model.model.multi_modal_projector(features)
    return torch.cat([before, image.to(before.dtype), after, table(tokens)], dim=1)


def lean_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Plain attention in bfloat16: on a CPU its backward pass is several times faster than sdpa's."""
    with torch.autocast("cpu", enabled=False):
        query, key = (query * scaling).to(value.dtype), key.to(value.dtype)  # the rotation left float32
        scores = query @ key.transpose(2, 3)
        if module.is_causal:
            scores += torch.full(scores.shape[2:], -math.inf, dtype=scores.dtype).triu(1)
        weights = scores.softmax(-1)
        return (weights @ value).transpose(1, 2), None


def make_optimizer(
    groups: list[dict], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, warm-up over 100 steps, cosine to zero."""
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05)

    def factor(step: int) -> float:
        return min((step + 1) / 100, 0.5 * (1 + math.cos(math.pi * step / steps)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def batches(count: int, size: int, steps: int, seed: int):
    """Index arrays over epochs of shuffled scenes."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(count) for _ in range(math.ceil(steps * size / count))])
    yield from order[: steps * size].reshape(steps, size)


def update(loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    """One step with clipped gradients."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    schedule.step()


if __name__ == "__main__":
    main()
