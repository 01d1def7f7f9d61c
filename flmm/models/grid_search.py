"""Finds out how an image-text model lays out its picture: grid rules are tried until one passes the grid check."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import gcd, isqrt
from typing import Any

import torch
from PIL import Image
from torch import nn

from flmm.constants import CHECKED_SIZES as SIZES
from flmm.datasets.hf_processors import HFImageProcessor, anyres_layout, canvas_layout, split_layout
from flmm.datasets.sample import SampleBuilder
from flmm.models.frozen_hf import HFBackbone
from flmm.models.grid_check import check_grid
from flmm.models.grids import AnyresGrid, PatchGrid, SquareGrid, TileGrid


@dataclass(frozen=True)
class Rule:
    """A way to declare where the image tokens lie.

    Attributes:
        grid: A grid rule of `flmm.models.grids`.
        grid_args: Its arguments.
        processor: Arguments of `HFImageProcessor`.
        head: Arguments of `FrozenHF`.
    """

    grid: type
    grid_args: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """As a config writes it, in short."""
        given = [f"{key}={value!r}" for key, value in self.grid_args.items()]
        others = [f"{key}={getattr(value, '__name__', value)}" for key, value in (self.processor | self.head).items()]
        return ", ".join([f"{self.grid.__name__}({', '.join(given)})", *others])


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Attributes:
        rule: The rule that passed; None when none did.
        lowest: Lowest score of a square in any view and shape under that rule.
        views: Rows and columns of each view of the first picture.
        refused: By rule, why it did not pass.
    """

    rule: Rule | None
    lowest: float
    views: list[tuple[int, int]]
    refused: dict[str, str]


def image_texts(processor: Any) -> list[str]:
    """Texts that may stand for a picture in a prompt, those first that are used most.

    Some processors want start and end written around it (Hunyuan-VL).
    """
    names = ("image_token", "boi_token", "image_start_token", "start_image_token", "fake_image_token", "img_token")
    texts = [text for name in names if isinstance(text := getattr(processor, name, None), str)]
    start, end = (getattr(processor, f"image_{side}_token", None) for side in ("start", "end"))
    around = [f"{start}{texts[0]}{end}"] if texts and start and end else []
    return list(dict.fromkeys([*texts, *around]))


def rules(processor: Any, image_token: str) -> Iterator[Rule]:
    """Rules that may fit a processor, those that show more of the picture first."""
    images = processor.image_processor
    yield Rule(PatchGrid)
    for switch in ("do_image_splitting", "slice_mode"):
        if hasattr(images, switch):
            yield Rule(PatchGrid, {}, {switch: False})
    yield Rule(PatchGrid, {"newline": True})
    yield Rule(PatchGrid, {"newline": True, "ends": 1})
    layouts: list[dict[str, Any]] = [{}] + [{"layout": layout} for layout in (split_layout, canvas_layout)]
    cut = {"crop_to_patches": True, "min_patches": 2} if hasattr(images, "crop_to_patches") else {}
    for layout in layouts:
        for place in ("last", "first"):
            more = cut if layout.get("layout") is canvas_layout else {}
            yield Rule(TileGrid, {} if place == "last" else {"whole": place}, layout | more)
    yield Rule(AnyresGrid)
    yield Rule(AnyresGrid, {}, {"layout": anyres_layout})
    square = Rule(SquareGrid)
    yield square
    for side in sides(processor, image_token):
        yield Rule(SquareGrid, {"side": side, "at": "first"})
        yield Rule(SquareGrid, {"side": side, "at": "last"})
    if getattr(images, "do_center_crop", False):
        crop = images.crop_size or images.size
        height, width = (crop["height"] or crop["shortest_edge"], crop["width"] or crop["shortest_edge"])
        yield replace(square, processor={"do_center_crop": False, "size": {"height": height, "width": width}})
    yield replace(square, processor={"square": True}, head={"padded": True})
    yield replace(square, head={"prefix_lm": True})


def sides(processor: Any, image_token: str) -> list[int]:
    """Rows of squares that the tokens of a picture may consist of, whatever its shape.

    Either all pictures consist of equal squares, or the one with the fewest tokens is a square without tiles.
    """
    images = HFImageProcessor(processor, image_token)
    counts = [count_of(images.preprocess(Image.new("RGB", size))["image_token_ids"][0]) for size in SIZES]
    shared, fewest = gcd(*counts), isqrt(min(counts))
    found = [side for side in range(isqrt(shared), 3, -1) if shared % side**2 == 0][:2]
    return [*found, fewest] if fewest**2 == min(counts) and fewest not in found else found


def count_of(ids: torch.Tensor) -> int:
    """How often the token that stands for places is among those that a picture becomes: it is the one used most."""
    return int(ids.unique(return_counts=True)[1].max())


def find_rule(model: nn.Module, processor: Any, image_token: str, settings: dict[str, Any]) -> Found:
    """Tries rules on pictures of four shapes until a bright square lights up at its own place in all of them.

    Args:
        model: The LMM.
        processor: Its processor.
        image_token: What stands for a picture in the prompt.
        settings: Other arguments of `SampleBuilder`: tokenizer, prompt, prompt_template.
    """
    refused: dict[str, str] = {}
    for rule in rules(processor, image_token):
        try:
            score, views = tried(model, processor, image_token, settings, rule)
        except (ValueError, RuntimeError, AttributeError, LookupError, TypeError) as error:  # layouts of another kind
            refused[str(rule)] = f"{type(error).__name__}: {error}"
            continue
        if score is not None:
            return Found(rule, score, views, refused)
        refused[str(rule)] = "the square does not light up at its own place"
    return Found(None, 0.0, [], refused)


def built(
    model: nn.Module, processor: Any, image_token: str, settings: dict[str, Any], rule: Rule
) -> tuple[HFBackbone, SampleBuilder]:
    """Backbone and sample builder under a rule."""
    images = HFImageProcessor(processor, image_token, **rule.processor)
    builder = SampleBuilder(image_processor=images, image_token=image_token, **settings)
    return HFBackbone(model, rule.grid(**rule.grid_args), **rule.head), builder


def tried(
    model: nn.Module, processor: Any, image_token: str, settings: dict[str, Any], rule: Rule
) -> tuple[float | None, list[tuple[int, int]]]:
    """Lowest score under a rule, None when a square lights up elsewhere, and the size of each view."""
    backbone, builder = built(model, processor, image_token, settings, rule)
    lowest = 1.0
    views: list[tuple[int, int]] = []
    with torch.no_grad():
        for size in SIZES:
            for place in check_grid(backbone, builder, size):
                if not place.agrees:
                    return None, []
                lowest = min(lowest, place.score)
                if size == SIZES[0] and place.view == len(views):
                    views.append((place.change.shape[0], place.change.shape[1]))
    return lowest, views
