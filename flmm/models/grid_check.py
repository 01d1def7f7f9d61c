"""Does a backbone know where its image tokens lie? A bright square must change the tokens at its place most.

No weights need to be trained for that: the embeddings of the image tokens, as the decoder reads them, are compared with
those of the same picture without the square.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from flmm.datasets.sample import SampleBuilder
from flmm.models.backbone import Backbone, handed_on
from flmm.models.functional import crop_to_picture

TEXT = "a bright square"
FRACTION = 4  # the square's side in parts of the picture's
# Not of one color: a tower that normalizes each patch would not see that (Gemma 4 unified).
SQUARE = Image.linear_gradient("L").point(lambda value: 191 + value // 4).convert("RGB")
ENOUGH = 0.75  # right grids score above 0.85 with random weights, attention in the tower notwithstanding


@dataclass(frozen=True)
class Place:
    """Hold one square and what it lit up in one view.

    Attributes:
        picture: The picture with the square.
        box: x0, y0, x1, y1 of the square, in pixels.
        view: Index of the view; coarse views come before fine ones.
        change: [h, w], how much the embedding of each token of the view changed, over the picture (padding cut off).
        score: How often a token inside the square changed more than one outside: 1 is perfect, 0.5 is chance.
    """

    picture: Image.Image
    box: tuple[int, int, int, int]
    view: int
    change: Tensor
    score: float

    @property
    def agrees(self) -> bool:
        """Tell whether the square lit up where it is."""
        return self.score >= ENOUGH

    def draw(self) -> Image.Image:
        """Draw the picture with the change in red, the grid of tokens in gray, the square in green."""
        heat = F.interpolate(self.change[None, None], (self.picture.height, self.picture.width), mode="nearest")[0, 0]
        red = Image.fromarray((255 * heat / heat.max().clamp(min=1e-12)).byte().cpu().numpy())
        drawn = Image.composite(
            Image.new("RGB", self.picture.size, "red"), self.picture, red.point(lambda v: v * 2 // 3)
        )
        draw = ImageDraw.Draw(drawn)
        rows, columns = self.change.shape
        for column in range(1, columns):
            draw.line(
                [(drawn.width * column // columns, 0), (drawn.width * column // columns, drawn.height)], "#444444"
            )
        for row in range(1, rows):
            draw.line([(0, drawn.height * row // rows), (drawn.width, drawn.height * row // rows)], "#444444")
        draw.rectangle(self.box, outline="#00ff00", width=2)
        return drawn


def check_grid(backbone: Backbone, builder: SampleBuilder, size: tuple[int, int] = (640, 416)) -> Iterator[Place]:
    """Try five places of a bright square on a gray picture of `size` (width, height), in every view."""
    plain = Image.new("RGB", size, (60, 60, 60))
    before = _embeddings(backbone, builder, plain)
    width, height = size[0] // FRACTION, size[1] // FRACTION
    for x, y in ((0, 0), (3, 0), (1, 1), (0, 3), (3, 3)):
        box = (x * width, y * height, (x + 1) * width, (y + 1) * height)
        picture = plain.copy()
        picture.paste(SQUARE.resize((width, height)), box)
        after = _embeddings(backbone, builder, picture)
        for view, (bright, gray) in enumerate(zip(after, before, strict=True)):
            change = (bright - gray).norm(dim=-1)
            yield Place(picture, box, view, change, _score(change, box, size))


@torch.no_grad()
def prefill_difference(backbone: Backbone, builder: SampleBuilder) -> float:
    """Compare what the LMM reads before it answers with what grounding reads, relative to its size.

    Raises:
        ValueError: When `generate` never hands embeddings to the decoder.
    """
    picture = Image.new("RGB", (640, 416), (60, 60, 60))
    picture.paste((255, 255, 255), (0, 0, 300, 200))
    sample = builder.build(picture, [], [])
    read = backbone.tokens(sample).inputs["inputs_embeds"]
    seen: list[Tensor] = []

    def keep(_module: nn.Module, args: Any, inputs: dict[str, Any]) -> None:
        embeds = handed_on(args, inputs).get("inputs_embeds")
        if embeds is not None:
            seen.append(embeds)

    hook = backbone.first_reader.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        backbone.generate(**backbone.prompt(sample).inputs, max_new_tokens=1, do_sample=False)
    finally:
        hook.remove()
    if not seen or seen[0].shape != read.shape:
        found = list(seen[0].shape) if seen else "none"
        raise ValueError(
            f"the LMM answers from embeddings {found}, but grounding reads {list(read.shape)}: it needs its own adapter"
        )
    return float((seen[0] - read).float().norm() / read.float().norm())


def read_of_pictures(inputs: dict[str, Any]) -> Tensor:
    """Join the embeddings [S, D] with what later layers add to the image tokens (Qwen3-VL, Granite 4 Vision).

    Args:
        inputs: Inputs of the decoder: lists or dicts of [N, D] are added to the N tokens that a boolean one marks.

    Returns:
        [S, D'], in float32.
    """
    embeds = inputs["inputs_embeds"][0].float()
    groups = [list(v.values()) if isinstance(v, dict) else v for v in inputs.values() if isinstance(v, dict | list)]
    marks = [v.flatten() for v in inputs.values() if isinstance(v, Tensor) and v.dtype == torch.bool]
    added = []
    for part in (part for group in groups for part in group if isinstance(part, Tensor) and part.ndim == 2):
        for is_image in (mark for mark in marks if len(mark) == len(embeds) and mark.sum() == len(part)):
            added.append(torch.zeros(len(embeds), part.shape[1], device=embeds.device))
            added[-1][is_image] = part.float()
    return torch.cat([embeds, *added], -1)


def _embeddings(backbone: Backbone, builder: SampleBuilder, picture: Image.Image) -> list[Tensor]:
    """Return the embeddings [h, w, D] of every view, over the picture."""
    sample = builder.ground(picture, TEXT, [TEXT])
    tokens = backbone.tokens(sample)
    read = read_of_pictures(tokens.inputs)
    views = [read[view] for view in tokens.views]
    if not backbone.views_include_padding:
        return views
    return [crop_to_picture(view.permute(2, 0, 1), sample["meta_data"]).permute(1, 2, 0) for view in views]


def _score(change: Tensor, box: tuple[int, int, int, int], size: tuple[int, int]) -> float:
    """Return the share of pairs (token inside the box, outside) of which the inner one changed more."""
    rows, columns = change.shape
    x = (torch.arange(columns) + 0.5) * size[0] / columns
    y = (torch.arange(rows) + 0.5) * size[1] / rows
    inside = ((y >= box[1]) & (y <= box[3]))[:, None] & ((x >= box[0]) & (x <= box[2]))
    change = change.cpu()
    return float((change[inside][:, None] > change[~inside]).float().mean())
