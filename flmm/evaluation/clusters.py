"""Attention maps cut in two without any training: what the maps show before the U-Net."""

import numpy as np


def attention_cluster(maps: np.ndarray, seed: int = 0, tries: int = 10) -> np.ndarray:
    """Split a picture in two by its attention, and keep the part that gets more of it.

    The reference keeps the part that fits the ground truth better, which nobody has for a new picture.

    Args:
        maps: [C, h, w] attention of a phrase, a map per layer and head.
        seed: Of the starting points.
        tries: Of them the tightest split is taken.

    Returns:
        [h, w] bool: the cluster of cells (their C values, divided by their length) with the larger mean attention.
    """
    from scipy.cluster.vq import kmeans2

    channels, height, width = maps.shape
    cells = maps.reshape(channels, -1).T.astype(np.float64)  # [h·w, C]
    points = cells / np.linalg.norm(cells, axis=1, keepdims=True).clip(min=1e-12)
    if not np.ptp(points, axis=0).any():  # all alike: there is nothing to split
        return np.ones((height, width), dtype=bool)
    generator = np.random.default_rng(seed)
    splits = [kmeans2(points, 2, minit="++", seed=generator) for _ in range(tries)]
    _, labels = min(splits, key=lambda split: ((points - split[0][split[1]]) ** 2).sum())
    strength = (cells / cells.sum(0).clip(min=1e-12)).sum(1)  # every map counts the same, as in Grounding.attention
    means = [strength[labels == cluster].mean() if (labels == cluster).any() else -1 for cluster in (0, 1)]
    return (labels == int(np.argmax(means))).reshape(height, width)
