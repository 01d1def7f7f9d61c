"""How well single attention heads of the tiny LMM point at what a phrase speaks of, with no head trained."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from dialogues import CAPTION, INSTRUCTION
from scene_pool import ScenePool
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from flmm.datasets.shapes.captions import Segment, caption, caption_phrases
from flmm.datasets.shapes.expressions import expressions
from flmm.datasets.shapes.free_texts import shuffled
from flmm.datasets.shapes.scene import FIRST_SHAPE, Scene


@torch.no_grad()
def measure_pointing(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pixels: Callable[[Tensor], Tensor],
    unseen: ScenePool,
    count: int,
) -> list[str]:
    """Texts of `count` scenes as if the LMM had said them; returns lines for the log.

    A head points right when the strongest patch of its mean attention over the phrase's tokens is at least a
    fifth the phrase's region. Its IoU is that of the patches above half the maximum, against the exact mask.
    """
    tower, language = model.model.vision_tower, model.model.language_model
    before = language.config._attn_implementation, tower.config._attn_implementation
    language.set_attn_implementation("eager")
    tower.set_attn_implementation("sdpa")
    results: dict[str, list[tuple[Tensor, Tensor]]] = {}
    rng = random.Random(0)
    for scene, image, regions in zip(unseen.scenes[:count], unseen.images, unseen.regions, strict=False):
        features = model.get_image_features(
            pixels(torch.from_numpy(image[None]).to(model.device)),
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        ).pooler_output[0]
        for kind, text in texts_of(scene, rng):
            ids, phrases = encode_segments(text, tokenizer, model.config.image_seq_length)
            ids = ids.to(model.device)
            columns = (ids == model.config.image_token_id).nonzero().squeeze(1)
            embeds = model.get_input_embeddings()(ids)
            embeds[columns] = features.squeeze(0).to(embeds.dtype)
            out = language(inputs_embeds=embeds[None], output_attentions=True, use_cache=False)
            attention = torch.stack(out.attentions)[:, 0]  # [L, A, S, S]
            for rows, members in phrases:
                mask = torch.from_numpy(np.isin(regions, members))
                what = "things" if min(members) >= FIRST_SHAPE else "stuff"
                results.setdefault(f"{kind} {what}", []).append(
                    score(attention[:, :, rows][..., columns].mean(2).cpu(), mask)
                )
    language.set_attn_implementation(before[0])
    tower.set_attn_implementation(before[1])
    return [summarize(kind, values) for kind, values in results.items()]


def texts_of(scene: Scene, rng: random.Random) -> list[tuple[str, list[Segment]]]:
    """The caption, its phrases alone and shuffled, and one referring expression."""
    made = [("caption", caption(scene)), ("shuffled", shuffled(scene, rng))]
    made.append(("alone", [rng.choice([p for p in caption_phrases(scene) if min(p.regions) >= FIRST_SHAPE])]))
    index = rng.randrange(len(scene.shapes))
    if choices := expressions(scene, index):
        made.append(("expression", [Segment(rng.choice(choices), (FIRST_SHAPE + index,)), Segment(".")]))
    return made


def encode_segments(
    text: list[Segment], tokenizer: PreTrainedTokenizerFast, image_tokens: int
) -> tuple[Tensor, list[tuple[list[int], list[int]]]]:
    """Token ids of prompt and text, and (token positions, regions) of each phrase."""
    prompt = INSTRUCTION.format(input="<image>" * image_tokens + f"\n{CAPTION}")
    ids = tokenizer.encode(prompt)
    phrases = []
    for segment in text:
        tokens = tokenizer.encode(segment.utterance, add_special_tokens=False)
        if segment.regions:
            phrases.append((list(range(len(ids), len(ids) + len(tokens))), list(segment.regions)))
        ids = ids + tokens
    return torch.tensor(ids), phrases


def score(maps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Pointing (0 or 1) and IoU of each head, [L, A] each, from maps [L, A, n] and a mask [side, side]."""
    grid = int(maps.shape[-1] ** 0.5)
    patch = mask.shape[-1] // grid
    share = mask.float().view(grid, patch, grid, patch).mean((1, 3)).flatten()
    hot = maps > 0.5 * maps.amax(-1, keepdim=True)
    inter, size = (hot * share).sum(-1), hot.sum(-1) + share.sum()
    return (share[maps.argmax(-1)] >= 0.2).float(), inter / (size - inter)


def summarize(kind: str, values: list[tuple[Tensor, Tensor]]) -> str:
    """One line: the best head's pointing and IoU."""
    parts = []
    for name, maps in zip(("pointing", "IoU"), zip(*values, strict=True), strict=True):
        mean = torch.stack(maps).mean(0)
        layer, head = divmod(int(mean.argmax()), mean.shape[1])
        parts.append(f"{name} {mean.max():.3f} (layer {layer}, head {head}; mean {mean.mean():.3f})")
    return f"{len(values)} phrases, {kind}: {', '.join(parts)}"
