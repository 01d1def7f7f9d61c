"""What a data set holds: a caption with its segments, a sample as the LMM reads it, counts and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from flmm.datasets.captions import Caption, segment_map
from flmm.datasets.images import as_rgb
from flmm.evaluation.drawings import (
    GAP,
    GREY,
    INK,
    PANEL,
    PAPER,
    Colour,
    colour_of,
    font,
    overlay,
    text_block,
    thumbnail,
)
from flmm.evaluation.plots.figures import FIRST, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = 24


def draw_caption(dataset: Any, index: int) -> Image.Image:
    """The picture of a caption and its panoptic map, below the caption; segments have the colors of their phrases.

    Args:
        dataset: A PNGDataset.
        index: Of its caption.
    """
    caption = dataset.items[index]
    image = thumbnail(as_rgb(dataset[index]["image"]))
    panoptic = _painted(segment_map(dataset.panoptic_png_path / caption.segm_file), caption)
    text, spans = caption_text(caption)
    panels = [image, panoptic.resize(image.size, Image.Resampling.NEAREST)]
    return _below(text_block(text, spans, 2 * (PANEL + GAP) - GAP), panels)


def caption_text(caption: Caption) -> tuple[str, list[tuple[int, int]]]:
    """The text of a caption, and the characters of each of its phrases."""
    text, spans = "", []
    for segment in caption.segments:
        text += f" {segment.words}" if text else segment.words
        if segment.is_phrase:
            spans.append((len(text) - len(segment.words), len(text)))
    return text, spans


def _painted(ids: np.ndarray, caption: Caption) -> Image.Image:
    """Segment ids [H, W] in the colors of the first phrase that names them, other segments in greys."""
    phrases = [segment for segment in caption.segments if segment.is_phrase]
    colors = {i: colour_of(number) for number, phrase in reversed(list(enumerate(phrases))) for i in phrase.ids}
    pixels = np.zeros((*ids.shape, 3), dtype=np.uint8)
    for number, i in enumerate(np.unique(ids)):
        pixels[ids == i] = colors.get(int(i), (200 - 15 * (number % 8),) * 3)
    return Image.fromarray(pixels)


def draw_truth(sample: Mapping[str, Any]) -> Image.Image:
    """The picture of a sample and its true masks, with the phrases below in the colors of their masks."""
    image = thumbnail(as_rgb(sample["image"]))
    masks = np.asarray(sample["gt_masks"], dtype=bool)
    colors = [colour_of(phrase) for phrase in range(len(masks))]
    text = " · ".join(sample["phrases"])
    starts = np.cumsum([0, *(len(words) + 3 for words in sample["phrases"])])
    spans = [(int(start), int(start) + len(words)) for start, words in zip(starts, sample["phrases"], strict=False)]
    grey = image.convert("L").convert("RGB")  # the colors are those of the phrases
    return _below(text_block(text, spans, 2 * (PANEL + GAP) - GAP), [image, overlay(grey, masks, colors)])


def _below(text: Image.Image, panels: Sequence[Image.Image]) -> Image.Image:
    width = GAP + sum(panel.width + GAP for panel in panels)
    height = text.height + max(panel.height for panel in panels) + 3 * GAP
    canvas = Image.new("RGB", (max(width, text.width + 2 * GAP), height), PAPER)
    canvas.paste(text, (GAP, GAP))
    x = GAP
    for panel in panels:
        canvas.paste(panel, (x, text.height + 2 * GAP))
        x += panel.width + GAP
    return canvas


def draw_tokens(sample: Mapping[str, Any], tokenizer: Any, width: int = 640) -> Image.Image:
    """What the LMM reads, token by token, those of a phrase on the color of its mask.

    Args:
        sample: A sample.
        tokenizer: The one that made it.
        width: Of the picture.
    """
    face, placed, x, y = font(14), [], GAP, GAP
    for words, color in _tokens(sample, tokenizer):
        length = round(face.getlength(words)) + 8
        if x + length > width - GAP and x > GAP:
            x, y = GAP, y + LINE
        placed.append((x, y, length, words, color))
        x += length + 3
    canvas = Image.new("RGB", (width, y + LINE + GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    for x, y, length, words, color in placed:
        pen.rectangle((x, y, x + length, y + LINE - 4), fill=color or (235, 235, 235))
        pen.text((x + 4, y + 1), words, fill=PAPER if color else INK, font=face)
    return canvas


def _tokens(sample: Mapping[str, Any], tokenizer: Any) -> list[tuple[str, Colour | None]]:
    """Each token as text with the color of its phrase; runs of one image token in one piece."""
    ids, phrases = sample["input_ids"].tolist(), sample["mask_ids"].tolist()
    found: list[tuple[str, Colour | None]] = []
    for (token, phrase), run in groupby(zip(ids, phrases, strict=True)):
        count = len(list(run))
        words = "<image>" if token < 0 else tokenizer.convert_ids_to_tokens(token)
        color = None if phrase < 0 else colour_of(phrase)
        found += [(f"{words} × {count}", color)] if count > 3 else [(words, color)] * count
    return found


def data_counts(dataset: Any, limit: int = 200) -> dict[str, list[float]]:
    """Counts of the first captions of a PNGDataset.

    Args:
        dataset: The data set.
        limit: Captions that are read, as masks and tokens take a while to make.

    Returns:
        `phrases` and `tokens` of each caption, `words` of each phrase, `area` of each mask in percent of its picture.
    """
    counts: dict[str, list[float]] = {"phrases": [], "tokens": [], "words": [], "area": []}
    for index in range(min(limit, len(dataset))):
        sample = dataset[index]
        masks = np.asarray(sample["gt_masks"], dtype=bool)
        counts["phrases"].append(len(masks))
        counts["tokens"].append(int((sample["labels"] >= 0).sum()))
        counts["words"] += [len(words.split()) for words in sample["phrases"]]
        counts["area"] += (100 * masks.mean((1, 2))).tolist()
    return counts


TITLES = {
    "phrases": ("phrases of a caption", "captions"),
    "tokens": ("tokens of a caption", "captions"),
    "words": ("words of a phrase", "phrases"),
    "area": ("mask, % of picture", "phrases"),
}


def draw_counts(counts: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Histograms of `data_counts`."""
    figure = new_figure(4.2)
    for axes, (name, (label, unit)) in zip(figure.subplots(2, 2).flat, TITLES.items(), strict=True):
        values = counts[name]
        whole = name in ("phrases", "words")
        bins = np.arange(min(values), max(values) + 2) - 0.5 if whole else 20
        axes.hist(values, bins, color=FIRST, rwidth=0.9)
        axes.set(xlabel=label, ylabel=unit)
        axes.locator_params(integer=True, nbins=6)
        axes.set_title(f"mean {np.mean(values):.1f}", fontsize=9, loc="left", color=[part / 255 for part in GREY])
        plain(axes)
    figure.suptitle(f"{title}: {len(counts['phrases'])} captions, {len(counts['words'])} phrases", fontsize=10)
    return figure
