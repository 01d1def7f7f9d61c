"""What a trained head learned about the layers: how much of each goes into SAM's text prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flmm.evaluation.plots.figures import FIRST, SECOND, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "text_layer_weights"


def layer_weights(config: Any, checkpoint: str | Path) -> tuple[list[int], np.ndarray]:
    """Read the learned layer weights of a checkpoint; no model is built.

    Args:
        config: The config it was trained with.
        checkpoint: Trained head.

    Returns:
        Indices of the layers (negative ones count from the last), and the share of each, which sum to 1.

    Raises:
        FileNotFoundError: When there is no such checkpoint.
        ValueError: When it has no such weights, or others than the config names.
    """
    from flmm.checkpoint import read_head
    from flmm.paths import locate

    found = read_head(locate(str(checkpoint))).get(KEY)
    if found is None:
        raise ValueError(f"{checkpoint} holds no {KEY}: it is of a model without SAM, which learns none")
    named = config.model.get("text_layers")
    layers = list(range(len(found))) if named is None else sorted(set(named), key=lambda layer: (layer < 0, layer))
    if len(layers) != len(found):
        raise ValueError(f"{checkpoint} weighs {len(found)} layers, the config names {layers}: give the config of it")
    return layers, found.float().softmax(0).numpy()


def draw_layers(layers: Sequence[int], shares: np.ndarray, title: str) -> Figure:
    """The share of each layer as a bar, beside that of equal weights.

    Args:
        layers: L indices.
        shares: [L], sum 1.
        title: What was trained.
    """
    figure = new_figure(2.6)
    axes = figure.subplots()
    places, equal = np.arange(len(layers)), 100 / len(layers)
    axes.bar(places, 100 * shares, color=FIRST, width=0.8)
    axes.axhline(equal, color=SECOND, linestyle="--", linewidth=1.5, label=f"equal weights: {equal:.1f} %")
    step = 1 if len(layers) <= 16 else 4
    axes.set_xticks(places[::step], [str(layer) for layer in layers[::step]])
    axes.set(xlabel="layer of the LMM", ylabel="share, percent", ylim=(0, 1.2 * max(100 * float(shares.max()), equal)))
    largest = f"largest: layer {layers[int(shares.argmax())]}, {100 * shares.max():.1f} %"
    figure.suptitle(f"{title}\n{largest}", fontsize=9, x=0.01, ha="left")
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    plain(axes)
    return figure
