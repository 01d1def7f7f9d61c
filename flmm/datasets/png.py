"""Panoptic Narrative Grounding: captions whose phrases are segments of COCO's panoptic annotations."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from flmm.constants import NO_PHRASE
from flmm.datasets.captions import Segment, read_captions, segment_map
from flmm.datasets.images import as_annotated, read_image, usable_backend
from flmm.datasets.phrases import encode_pieces
from flmm.datasets.sample import ReadsSamples


def concat_datasets(
    datasets_list: Sequence[Any],
    shared: Mapping[str, Any] | None = None,
    weights: Sequence[float] | None = None,
) -> ConcatDataset:
    """Put data sets one after the other.

    Args:
        datasets_list: N data sets or their configs.
        shared: Arguments of all configs in the list; a config among them is built once.
        weights: How often an epoch passes through each: 1 once, 3 three times, 0.25 every fourth item. All once when
            not given.

    Returns:
        The data sets as one.

    Raises:
        ValueError: Not one weight for each, a negative one, or all 0.
    """
    from xtuner.registry import BUILDER

    def build(part: Any, **given: Any) -> Any:
        return BUILDER.build({**given, **part}) if isinstance(part, Mapping) else part

    given = [1.0] * len(datasets_list) if weights is None else list(weights)
    if len(given) != len(datasets_list) or not all(0 <= weight < float("inf") for weight in given) or not any(given):
        raise ValueError(f"weights {given} for {len(datasets_list)} data sets: give each one of 0 or more, not all 0")
    built = {name: build(part) for name, part in (shared or {}).items()}
    pairs = zip(datasets_list, given, strict=True)
    return ConcatDataset([repeated(build(item, **built), weight) for item, weight in pairs if weight])


def repeated(data: Any, weight: float) -> Any:
    """Return a data set passed through `weight` times; of a part of a pass, items at equal distances."""
    if weight == 1:
        return data
    whole, part = divmod(weight, 1)
    count = round(part * len(data))
    spread = [number * len(data) // count for number in range(count)]
    return Subset(data, [*range(len(data))] * int(whole) + spread)


def custom_collate_fn(instances: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples differ in size, so a batch is their list: dict(data=samples, data_samples=None)."""
    return {"data": instances, "data_samples": None}


class PNGDataset(ReadsSamples, Dataset):
    """Captions with a mask for each grounded phrase.

    Captions without any grounded phrase are left out when the files are read, and their number is logged. A
    phrase's mask is the union of its segments; plural phrases count as things.

    Args:
        json_file: `png_coco_{train,val}2017.json`.
        panoptic_json_file: COCO's `panoptic_{train,val}2017.json`.
        panoptic_png_path: Folder of the panoptic PNGs.
        local_path: Folder of the images.
        ceph_path: Folder of the images on a petrel cluster; used where the petrel client is installed.
        **reading: Arguments of `ReadsSamples`. With `allow_empty_masks` a phrase may have a segment that is not in the
            panoptic annotation or PNG.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The files do not belong together; an item that cannot be used (each names the item and the
            cure).
    """

    def __init__(
        self,
        json_file: str,
        panoptic_json_file: str,
        panoptic_png_path: str,
        local_path: str | None = "",
        ceph_path: str | None = None,
        **reading: Any,
    ) -> None:
        super().__init__(**reading)
        self.json_file = str(json_file)
        self.panoptic_png_path = Path(panoptic_png_path)
        self.backend_args = usable_backend({"backend": "petrel"}) if ceph_path else None
        self.image_folder = (ceph_path if self.backend_args else local_path) or ""
        self.items = read_captions(json_file, panoptic_json_file, self.allow_empty_masks)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """See `SampleBuilder.build`; also `mask_infos` (plural, isthing), `file_name` and `phrases`."""
        caption = self.items[index]
        file_name = caption.file_name
        phrases = [segment for segment in caption.segments if segment.is_phrase]
        masks = self._masks(self.panoptic_png_path / caption.segm_file, phrases)
        image = read_image(os.path.join(self.image_folder, file_name), self.backend_args)
        source = f"{self.json_file}, {file_name}"
        pieces = caption_pieces(caption.segments)
        caption_ids, mask_ids = encode_pieces(self.builder.tokenizer, pieces, source)
        return self.builder.build(
            as_annotated(image, (masks.shape[-2], masks.shape[-1]), source),
            caption_ids,
            mask_ids,
            masks,
            mask_infos=[{"plural": phrase.plural, "isthing": phrase.isthing} for phrase in phrases],
            phrases=[phrase.words for phrase in phrases],
            file_name=file_name,
        )

    def _masks(self, path: Path, phrases: Sequence[Segment]) -> torch.Tensor:
        """Return [M, H, W] uint8 from a panoptic PNG."""
        ids = segment_map(path)
        parts = {i: ids == i for phrase in phrases for i in phrase.ids}
        absent = sorted(i for i, part in parts.items() if not part.any())
        if absent and not self.allow_empty_masks:
            raise ValueError(
                f"{path} has no pixel of segment(s) {absent}, which {self.json_file} names: the PNG belongs "
                "to other annotations or was resized. Fetch it again; allow_empty_masks=True goes on without"
            )
        unions = [np.logical_or.reduce([parts[i] for i in phrase.ids]) for phrase in phrases]
        return torch.from_numpy(np.stack(unions).astype(np.uint8))


def caption_pieces(segments: Sequence[Segment]) -> list[tuple[str, int]]:
    """Return the segments of a caption as (words, phrase index or -1)."""
    number = itertools.count()
    return [(segment.words, next(number) if segment.is_phrase else NO_PHRASE) for segment in segments]
