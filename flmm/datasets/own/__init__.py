"""Your data: pictures, texts and masks in one JSON Lines file (docs/own_data.md)."""

from flmm.datasets.own.dataset import OwnDataset

__all__ = ["OwnDataset"]
