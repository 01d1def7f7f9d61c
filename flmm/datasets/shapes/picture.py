"""One picture of the data set: drawn, saved, and described by its scene and the masks of its regions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from flmm.datasets.shapes.drawing import render
from flmm.datasets.shapes.scene import Scene, sample_scene

RLE = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn.

    Attributes:
        scene: What it shows.
        file: Its JPEG.
        segment_ids: 24-bit panoptic id of each region.
        masks: COCO run lengths of each region.
    """

    scene: Scene
    file: Path
    segment_ids: list[int]
    masks: list[RLE]

    @property
    def image_id(self) -> int:
        """Id in all annotation files."""
        return self.scene.seed + 1

    @property
    def info(self) -> dict[str, Any]:
        """COCO's entry."""
        size = {"height": self.scene.height, "width": self.scene.width}
        return {"id": self.image_id, "file_name": self.file.name, **size}

    def union(self, regions: Iterable[int]) -> RLE:
        """Run lengths of several regions together."""
        return as_json(coco_mask.merge([self.masks[region] for region in regions]))

    def box(self, region: int) -> list[int]:
        """COCO's box [x, y, width, height] in pixels."""
        return [int(v) for v in coco_mask.toBbox(self.masks[region])]

    def area(self, region: int) -> int:
        """Pixels of a region."""
        return int(coco_mask.area(self.masks[region]))


def draw_picture(folder: Path, panoptic_folder: Path, seed: int) -> Picture:
    """Draw the scene of a seed and write its picture and panoptic PNG."""
    scene, name = sample_scene(seed), f"{seed + 1:012d}"
    image, regions = render(scene)
    ids = _segment_ids(seed, 2 + len(scene.shapes))
    file = folder / f"{name}.jpg"
    Image.fromarray(image).save(file, quality=95)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colors[regions]).save(panoptic_folder / f"{name}.png")
    return Picture(scene, file, ids.tolist(), [encode(regions == region) for region in range(len(ids))])


def _segment_ids(seed: int, count: int) -> np.ndarray:
    """Distinct non-zero 24-bit ids, spread like COCO's."""
    return 1 + np.random.default_rng([seed, 2]).choice(2**24 - 1, size=count, replace=False)


def encode(mask: np.ndarray) -> RLE:
    """Compressed run lengths that JSON can hold."""
    return as_json(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def as_json(rle: RLE) -> RLE:
    """Run lengths with text instead of bytes."""
    counts = rle["counts"]
    return {"size": [int(n) for n in rle["size"]], "counts": counts if isinstance(counts, str) else counts.decode()}
