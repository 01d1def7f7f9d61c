"""How well single attention heads of the tiny LMM point at what a phrase speaks of, with no head trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scene_pool import ScenePool
from tiny_parts import PROMPT
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from flmm.datasets.shapes_scene import Scene, caption


@torch.no_grad()
def measure_grounding(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    pixels: Callable[[np.ndarray], Tensor],
    unseen: ScenePool,
    count: int,
) -> list[str]:
    """Teacher-forced captions of `count` scenes; returns lines for the log.

    A head points right when the strongest patch of its mean attention over the phrase's tokens is at least a
    fifth the phrase's region. Its IoU is that of the patches above half the maximum, against the exact mask.
    """
    model = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    points, overlaps, things = [], [], []
    for scene, image, regions in zip(unseen.scenes[:count], unseen.images, unseen.regions, strict=False):
        ids, phrases = tell(scene, tokenizer, model.config.image_seq_length)
        columns = (ids == model.config.image_token_id).nonzero().squeeze(1)
        out = model(input_ids=ids[None], pixel_values=pixels(image[None]), output_attentions=True)
        attention = torch.stack(out.attentions)[:, 0]  # [L, A, S, S]
        for rows, members in phrases:
            maps = attention[:, :, rows][..., columns].mean(2)
            mask = torch.from_numpy(np.isin(regions, members))
            point, overlap = score(maps, mask)
            points.append(point)
            overlaps.append(overlap)
            things.append(min(members) >= 2)
    return summarise(torch.stack(points), torch.stack(overlaps), torch.tensor(things))


def tell(
    scene: Scene, tokenizer: PreTrainedTokenizerFast, image_tokens: int
) -> tuple[Tensor, list[tuple[list[int], list[int]]]]:
    """Token ids of prompt and caption, and (token positions, regions) of each phrase."""
    ids = tokenizer.encode(PROMPT.replace("<image>", "<image>" * image_tokens))
    phrases = []
    for segment in caption(scene):
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


def summarise(points: Tensor, overlaps: Tensor, things: Tensor) -> list[str]:
    lines = []
    for name, which in (("things", things), ("stuff", ~things)):
        for measure, values in (("pointing", points), ("IoU", overlaps)):
            mean = values[which].mean(0)
            layer, head = divmod(int(mean.argmax()), mean.shape[1])
            lines.append(
                f"grounding of {int(which.sum())} {name}: {measure} {mean.max():.3f} "
                f"(layer {layer}, head {head}; mean over heads {mean.mean():.3f})"
            )
    return lines
