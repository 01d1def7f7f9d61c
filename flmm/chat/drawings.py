"""Pictures of explanations: heat maps, regions, and replies whose tokens are shaded by what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from flmm.evaluation.drawings import COLOURS, GAP, GREY, INK, PAPER, font, heat, overlay

if TYPE_CHECKING:
    from flmm.chat.explain import Heatmap, Occlusion, RegionTokens
    from flmm.chat.faithful import Faithfulness

SIDE, LINE = 336, 26


def draw_heatmap(heatmap: Heatmap) -> Image.Image:
    """The picture, and its heat beside it."""
    small = fitted(heatmap.image)
    hot = heat(small, heatmap.share.numpy())
    peak = f"largest lift {float(heatmap.lift.max()):.1f}, {float(heatmap.attention.sum()):.1%} of the attention"
    return under(f"{heatmap.text}\n{peak}", [small, hot])


def draw_region(found: RegionTokens) -> Image.Image:
    """The region, the reply with each token as dark as its lift, and the phrases that looked most."""
    small = overlay(fitted(found.image), found.region[None], [COLOURS[1]])
    tokens = [one.phrase.text for one in found.tokens]
    shades = np.array([one.lift - 1 for one in found.tokens])
    rows = [f"{one.lift:5.1f} x chance   z {one.z:+.1f}   {one.phrase.text}" for one in found.ranked("phrases")[:6]]
    return beside(small, [shaded(tokens, shades), listing(rows)])


def draw_occlusion(occlusion: Occlusion) -> Image.Image:
    """The picture without the region, and the reply with each token as dark as it depends on it."""
    tokens = [token.text for token in occlusion.tokens]
    change = occlusion.change.numpy()
    order = np.argsort(change)[:6]
    rows = [f"log p {change[index]:+.2f}   {tokens[index].strip()}" for index in order]
    return beside(fitted(occlusion.image), [shaded(tokens, -change), listing(rows)])


def draw_faithfulness(found: Faithfulness) -> Image.Image:
    """Mean deletion and insertion curves, by attention and at random."""
    from flmm.evaluation.plots.figures import as_image, new_figure

    figure = new_figure(height=3.4, width=8)
    for axes, name in zip(figure.subplots(1, 2), ("deletion", "insertion"), strict=True):
        for order, color in (("attention", COLOURS[0]), ("random", COLOURS[1])):
            curve = np.mean(found.curves(name, order), axis=0)
            shares = np.linspace(0, 1, len(curve))
            axes.plot(shares, curve, label=f"{order}: area {curve.mean():.2f}", color=[one / 255 for one in color])
        axes.set(title=name, xlabel="share of the picture", ylabel="probability of the reply", ylim=(0, None))
        axes.legend()
    return as_image(figure, dots=100)


def fitted(image: Image.Image) -> Image.Image:
    """The picture with a longer side of SIDE pixels."""
    scale = SIDE / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def under(title: str, panels: Sequence[Image.Image]) -> Image.Image:
    """Panels in a row, below lines of text."""
    lines = title.split("\n")
    top = LINE * len(lines) + GAP
    width = sum(panel.width + GAP for panel in panels) + GAP
    canvas = Image.new("RGB", (width, top + max(panel.height for panel in panels) + 2 * GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        pen.text((GAP, GAP + row * LINE), line, fill=GREY if row else INK, font=font(15, text=line))
    x = GAP
    for panel in panels:
        canvas.paste(panel, (x, top + GAP))
        x += panel.width + GAP
    return canvas


def beside(picture: Image.Image, blocks: Sequence[Image.Image]) -> Image.Image:
    """A picture, and blocks one below the other to its right."""
    height = max(picture.height, sum(block.height + GAP for block in blocks))
    width = picture.width + max(block.width for block in blocks) + 3 * GAP
    canvas = Image.new("RGB", (width, height + 2 * GAP), PAPER)
    canvas.paste(picture, (GAP, GAP))
    y = GAP
    for block in blocks:
        canvas.paste(block, (picture.width + 2 * GAP, y))
        y += block.height + GAP
    return canvas


def shaded(tokens: Sequence[str], values: np.ndarray, width: int = 420) -> Image.Image:
    """Tokens as running text, those above zero on a ground as dark as their value."""
    strongest = max(float(values.max(initial=0)), 1e-12)
    face, x, y, placed = font(16, text="".join(tokens).replace("\n", " ")), 0.0, 0, []
    for token, value in zip(tokens, values, strict=True):
        token = token.replace("\n", " ")
        length = face.getlength(token)
        if x + length > width and x > 0:
            x, y, token = 0.0, y + LINE, token.lstrip()
            length = face.getlength(token)
        placed.append((x, y, length, token, max(0.0, float(value)) / strongest))
        x += length
    block = Image.new("RGB", (width, y + LINE), PAPER)
    pen = ImageDraw.Draw(block)
    for x, y, length, token, strength in placed:
        ground = tuple(round(255 + (side - 255) * 0.75 * strength) for side in COLOURS[4])
        pen.rectangle((x, y, x + length, y + LINE - 4), fill=ground)
        pen.text((x, y), token, fill=INK, font=face)
    return block


def listing(rows: Sequence[str], width: int = 420) -> Image.Image:
    """Lines of text."""
    block = Image.new("RGB", (width, max(1, len(rows)) * LINE), PAPER)
    pen = ImageDraw.Draw(block)
    for row, words in enumerate(rows):
        pen.text((0, row * LINE), words, fill=GREY, font=font(14, text=words))
    return block
