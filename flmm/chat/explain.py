"""Explain a reply in both directions: where its words looked, and which words looked at a region or depend on it.

Attention shows where a word looked, not why it was said. `occlude` measures the second, and `flmm.chat.faithful` how
often the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from flmm.chat.regions import Box, cell_weights, hide, region_mask
from flmm.models.backbone import views_of_picture
from flmm.models.functional import crop_to_picture

if TYPE_CHECKING:
    from flmm.chat.reply import Phrase, Reply

Choice = int | Literal["mean"]


@dataclass(frozen=True)
class Heatmap:
    """Where tokens of a reply looked in a picture.

    Attributes:
        text: What the tokens say.
        image: The picture.
        attention: [h, w] mean attention of the tokens to each cell of the picture, of all that they could attend to.
    """

    text: str
    image: Image.Image
    attention: Tensor

    @property
    def share(self) -> Tensor:
        """[h, w] share of the attention to the picture; the sum is 1."""
        return self.attention / self.attention.sum().clamp(min=1e-12)

    @property
    def lift(self) -> Tensor:
        """[h, w] share over that of chance: 1 where the tokens look as much as anywhere."""
        return self.share * self.attention.numel()

    def draw(self) -> Image.Image:
        """The picture below the heat of the tokens."""
        from flmm.chat.drawings import draw_heatmap

        return draw_heatmap(self)


@dataclass(frozen=True)
class Scored:
    """A token or phrase with what was measured of it.

    Attributes:
        phrase: Its text and characters.
        share: Share of its attention to the picture that falls into the region, 0..1.
        lift: Share over that of chance, which is the region's share of the picture.
        z: Standard deviations above the mean share in equal regions elsewhere; NaN when there is no elsewhere.
    """

    phrase: Phrase
    share: float
    lift: float
    z: float


@dataclass(frozen=True)
class RegionTokens:
    """Which tokens and phrases looked at a region.

    Attributes:
        image: The picture.
        region: [H, W] bool.
        tokens: Every token, in the order of the reply.
        phrases: Every phrase, in the order of the reply.
    """

    image: Image.Image
    region: np.ndarray
    tokens: list[Scored]
    phrases: list[Scored]

    def ranked(self, of: Literal["tokens", "phrases"] = "tokens") -> list[Scored]:
        """Tokens or phrases, the one that looked most first; tokens without a visible character are left out."""
        scored = [one for one in getattr(self, of) if one.phrase.text.strip()]
        return sorted(scored, key=lambda one: -one.lift)

    def draw(self) -> Image.Image:
        """The picture with the region, and the reply with each token as dark as its lift."""
        from flmm.chat.drawings import draw_region

        return draw_region(self)


@dataclass(frozen=True)
class Occlusion:
    """What becomes of a reply when a region is hidden.

    Attributes:
        image: The picture without the region.
        region: [H, W] bool.
        tokens: The T tokens.
        before: [T] log-probability of each token with the whole picture.
        after: [T] log-probability of the same tokens without the region.
    """

    image: Image.Image
    region: np.ndarray
    tokens: list[Phrase]
    before: Tensor
    after: Tensor

    @property
    def change(self) -> Tensor:
        """[T] what hiding adds to each token's log-probability: negative where the token depends on the region."""
        return self.after - self.before

    def draw(self) -> Image.Image:
        """The picture that the LMM saw, and the reply with each token as dark as it depends on the region."""
        from flmm.chat.drawings import draw_occlusion

        return draw_occlusion(self)


def token_maps(reply: Reply, layer: Choice = "mean", head: Choice = "mean", picture: int = 0, view: int = -1) -> Tensor:
    """What each token attended to.

    Args:
        reply: The reply.
        layer: Index of a layer (negative ones count from the last), or 'mean' of all.
        head: Index of a head, or 'mean' of all.
        picture: Index of the picture.
        view: Index of the view of the picture; by default the finest.

    Returns:
        [T, h, w] float32 over the picture, without the padding that the image processor added.
    """
    maps = all_maps(reply, picture, view)
    return _chosen(_chosen(maps, layer, "layer").float(), head, "head").cpu()


def all_maps(reply: Reply, picture: int = 0, view: int = -1) -> Tensor:
    """What each token attended to, in every layer and head.

    Args:
        reply: The reply.
        picture: See `token_maps`.
        view: See `token_maps`.

    Returns:
        [L, A, T, h, w] over the picture, without the padding that the image processor added.
    """
    reply.shown(picture)
    maps = views_of_picture(reply.attended().attention, picture, len(reply.prompt.pictures))[view]
    if not reply.prompt.model.model.backbone.views_include_padding:
        return maps
    sample = reply.prompt.sample()
    return crop_to_picture(maps, sample.get("pictures", [sample])[picture]["meta_data"])


def _chosen(maps: Tensor, index: Choice, what: str) -> Tensor:
    if index == "mean":
        return maps.float().mean(0)
    if not isinstance(index, int) or not -len(maps) <= index < len(maps):
        raise ValueError(f"{what}={index!r}, but the LMM has {len(maps)}: give 0 to {len(maps) - 1}, or 'mean'")
    return maps[index]


def token_to_region(
    reply: Reply, phrase: Any = None, layer: Choice = "mean", head: Choice = "mean", picture: int = 0, view: int = -1
) -> Heatmap:
    """Shows where words of a reply looked.

    Args:
        reply: The reply.
        phrase: Words, characters (start, end) or an item of `phrases()`; the whole reply when not given.
        layer: See `token_maps`.
        head: See `token_maps`.
        picture: Index of the picture.
        view: See `token_maps`.

    Raises:
        ValueError: As of `Reply.find`; when there is no such layer, head or picture.
    """
    rows, found = tokens_of(reply, phrase)
    maps = token_maps(reply, layer, head, picture, view)
    return Heatmap(found.text, reply.shown(picture).image, maps[rows].mean(0))


def tokens_of(reply: Reply, phrase: Any = None) -> tuple[list[int], Phrase]:
    """The tokens that share characters with a phrase, and the phrase; the whole reply when none is given."""
    (found,) = reply.find([(0, len(reply.text)) if phrase is None else phrase])
    rows = [row for row, (start, end) in enumerate(reply.spans) if start < found.end and found.start < end]
    return rows, found


def region_to_token(
    reply: Reply,
    box: Box | None = None,
    mask: np.ndarray | None = None,
    layer: Choice = "mean",
    head: Choice = "mean",
    picture: int = 0,
    view: int = -1,
) -> RegionTokens:
    """Ranks the words of a reply by how much they looked at a region.

    Args:
        reply: The reply.
        box: x0, y0, x1, y1 in pixels.
        mask: [H, W] bool, instead of a box.
        layer: See `token_maps`.
        head: See `token_maps`.
        picture: Index of the picture.
        view: See `token_maps`.

    Raises:
        ValueError: For a region outside the picture; no such layer, head or picture.
    """
    image = reply.shown(picture).image
    region = region_mask(image, box, mask)
    maps = token_maps(reply, layer, head, picture, view)
    weights = cell_weights(region, (maps.shape[-2], maps.shape[-1]))
    groups = [(reply.phrase(span), [row]) for row, span in enumerate(reply.spans)]
    phrases = [(phrase, tokens_of(reply, phrase)[0]) for phrase in reply.phrases()]
    return RegionTokens(image, region, scored(maps, weights, groups), scored(maps, weights, phrases))


def scored(maps: Tensor, weights: Tensor, groups: Sequence[tuple[Phrase, list[int]]]) -> list[Scored]:
    """Measures phrases against a region.

    Args:
        maps: [T, h, w] attention of each token.
        weights: [h, w] share of each cell that belongs to the region.
        groups: Phrases with the indices of their tokens.
    """
    if not groups:
        return []
    means = torch.stack([maps[rows].mean(0) for _, rows in groups])
    shares = means / means.sum((-2, -1), keepdim=True).clamp(min=1e-12)
    inside = (shares * weights).sum((-2, -1))
    chance = float(weights.sum()) / weights.numel()
    z = (inside - (elsewhere := _elsewhere(shares, weights)).mean(-1)) / elsewhere.std(-1, correction=0).clamp(
        min=1e-12
    )
    if elsewhere.shape[-1] < 2:
        z = torch.full_like(inside, float("nan"))
    values = zip(groups, inside.tolist(), z.tolist(), strict=True)
    return [Scored(phrase, share, share / chance, score) for (phrase, _), share, score in values]


def _elsewhere(shares: Tensor, weights: Tensor) -> Tensor:
    """[G, N] shares inside the same region at each other place of the grid where it fits."""
    rows, columns = (weights.sum(dim).nonzero().flatten() for dim in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    kernel = weights[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    found = F.conv2d(shares[:, None], kernel[None, None])[:, 0]
    others = torch.ones(found.shape[-2:], dtype=torch.bool)
    others[top, left] = False
    return found[:, others]


def occlude(
    reply: Reply, box: Box | None = None, mask: np.ndarray | None = None, fill: str = "mean", picture: int = 0
) -> Occlusion:
    """Hides a region and asks how probable the same reply still is.

    Args:
        reply: The reply.
        box: x0, y0, x1, y1 in pixels.
        mask: [H, W] bool, instead of a box.
        fill: 'mean' color of the picture, 'grey' or 'blur'.
        picture: Index of the picture.

    Raises:
        ValueError: For an empty reply, a region outside the picture, another fill.
    """
    reply.find([(0, len(reply.text))])
    image = reply.shown(picture).image
    region = region_mask(image, box, mask)
    hidden = hide(image, region, fill)
    tokens = [reply.phrase(span) for span in reply.spans]
    return Occlusion(hidden, region, tokens, log_probs(reply), log_probs(reply, hidden, picture))


def log_probs(reply: Reply, image: Image.Image | None = None, picture: int = 0) -> Tensor:
    """[T] log-probability of each token of a reply, with another image in the place of a picture if given."""
    prompt = reply.prompt if image is None else reply.prompt.with_picture(picture, image)
    return prompt.model.model.read.log_probs(prompt.sample(reply.token_ids)).cpu()
