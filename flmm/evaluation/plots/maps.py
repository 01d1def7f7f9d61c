"""Small multiples: what each layer and head attends to, side by side over the picture."""

from __future__ import annotations

from PIL import Image, ImageDraw
from torch import Tensor

from flmm.evaluation.drawings import COLOURS, GREY, PAPER, font, heat

LARGEST, SMALLEST, WIDEST = 112, 28, 1024  # pixels of a map and of all in a row
LEFT, TOP, GAP = 56, 24, 2  # margins of the labels, and between maps


def draw_maps(image: Image.Image, maps: Tensor, framed: tuple[int, int] | None = None) -> Image.Image:
    """Every map over the picture: a row for each layer, a column for each head.

    Args:
        image: The picture.
        maps: [L, A, h, w] attention to it, without padding.
        framed: Layer and head that get a frame.
    """
    layers, heads = maps.shape[:2]
    scale = min(LARGEST, max(SMALLEST, WIDEST // heads)) / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height))
    canvas = Image.new("RGB", (LEFT + heads * (width + GAP), TOP + layers * (height + GAP)), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((4, 6), "head", fill=GREY, font=font(12))
    for layer in range(layers):
        y = TOP + layer * (height + GAP)
        pen.text((4, y + height // 2 - 7), f"layer {layer}", fill=GREY, font=font(12))
        for head in range(heads):
            x = LEFT + head * (width + GAP)
            canvas.paste(heat(small, maps[layer, head].float().numpy()), (x, y))
            if layer == 0:
                pen.text((x + width // 2 - 4, 6), str(head), fill=GREY, font=font(12))
            if (layer, head) == framed:
                pen.rectangle((x - 1, y - 1, x + width, y + height), outline=COLOURS[5], width=4)
    return canvas
