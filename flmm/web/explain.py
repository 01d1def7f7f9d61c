"""Explanations of a reply or sentence as plain values: words of a region, what hiding it changes, maps of the heads."""

from __future__ import annotations

from typing import Any

import torch

from flmm.chat.explain import Choice, Heatmap, Scored, all_maps, tokens_of
from flmm.chat.look import Look
from flmm.web.images import gray_url, grid, mask_url, picture_url
from flmm.web.limits import RefusedError
from flmm.web.session import Session, Source


def words_of_region(session: Session, source: Source, region: dict[str, Any]) -> dict[str, Any]:
    """How much each token and phrase of a text looked at a region: share, lift, z."""
    room = session.room
    found = room.text(source).region_to_token(**region, picture=room.place(source)[0])
    return {
        "source": list(source),
        "text": room.text(source).text,
        "tokens": [scored(one) for one in found.tokens],
        "phrases": [scored(one) for one in found.ranked("phrases")],
        "mask": mask_url(found.region),
        "box": [float(side) for side in region.get("box", ())],
    }


def scored(one: Scored) -> dict[str, Any]:
    """A token or phrase with its figures; null where one cannot be computed."""
    z = None if one.z != one.z else round(one.z, 3)
    return one.phrase._asdict() | {"share": round(one.share, 5), "lift": round(one.lift, 4), "z": z}


def hidden_region(session: Session, source: Source, region: dict[str, Any]) -> dict[str, Any]:
    """What hiding a region adds to the log-probability of each token of a text."""
    room = session.room
    found = room.text(source).occlude(**region, picture=room.place(source)[0])
    changes = zip(found.tokens, found.change.tolist(), strict=True)
    tokens = [token._asdict() | {"change": round(change, 4)} for token, change in changes]
    text = room.text(source).text
    return {"source": list(source), "text": text, "tokens": tokens, "picture": picture_url(found.image)}


def heat(session: Session, source: Source, phrase: Any, layer: Choice, head: Choice) -> dict[str, Any]:
    """Where a phrase, or the whole text, looked in one layer and head, or in the mean of all."""
    room = session.room
    found: Heatmap = room.text(source).token_to_region(
        room.read(source, span_of(phrase)), layer=layer, head=head, picture=room.place(source)[0]
    )
    return {
        "source": list(source),
        "text": found.text,
        "layer": layer,
        "head": head,
        "lift": round(float(found.lift.max()), 2),
        "attention": round(float(found.attention.sum()), 4),
        "map": gray_url(found.attention.numpy()),
    }


def every_head(session: Session, source: Source, phrase: Any) -> dict[str, Any]:
    """The maps of all layers (rows) and heads (columns) as one picture, each from its least to its most."""
    room = session.room
    text = room.text(source)
    rows, found = tokens_of(text, room.read(source, span_of(phrase)))
    maps = all_maps(text, room.place(source)[0])[:, :, rows].float().mean(2)  # [L, A, h, w]
    shares = maps.sum((-2, -1), keepdim=True)
    peaks = (maps / shares.clamp(min=1e-12)).amax((-2, -1)) * maps.shape[-2] * maps.shape[-1]
    most = torch.nonzero(peaks == peaks.max())[0].tolist()
    return {
        "source": list(source),
        "text": found.text,
        "layers": maps.shape[0],
        "heads": maps.shape[1],
        "sharpest": most,
        "maps": gray_url(grid(maps.cpu().numpy()), stretch=False),
    }


def looked(look: Look) -> dict[str, Any]:
    """Both replies of a second look."""
    return {
        "question": look.first.question,
        "first": look.first.text,
        "second": look.second.text,
        "box": list(look.box),
        "crop": picture_url(look.crop),
    }


def span_of(phrase: Any) -> tuple[int, int] | None:
    """Characters (start, end) of a request; None stands for the whole text."""
    if phrase is None:
        return None
    try:
        start, end = (int(position) for position in phrase)
    except (TypeError, ValueError) as error:
        raise RefusedError("nothing_said") from error
    return start, end


def choice(value: Any) -> Choice:
    """A layer or head of a request: a number from 0, or 'mean' for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "mean"
