"""The data set of a JSON Lines file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

from flmm.datasets.masks import check_masks
from flmm.datasets.own.entries import Entry, parse, read_lines
from flmm.datasets.own.pictures import open_entry
from flmm.datasets.phrases import encode_phrases
from flmm.datasets.sample import ReadsSamples


class OwnDataset(ReadsSamples, Dataset):
    """Pictures with a text each, whose phrases have masks, from a JSON Lines file (docs/own_data.md).

    All lines are checked when the file is read; pictures and masks when they are opened. Lines without a phrase are
    left out, and their number is logged.

    Args:
        file: The JSON Lines file.
        root: Folder that its paths start from; by default that of the file.
        no_target: Keep phrases without a target, with an empty mask; False leaves them to the text.
        **reading: Arguments of `ReadsSamples`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A line cannot be used, or none is left; names the line.
    """

    def __init__(
        self,
        file: str | Path,
        root: str | Path | None = None,
        no_target: bool = True,
        **reading: Any,
    ) -> None:
        super().__init__(**reading)
        self.file, self.root = str(file), Path(Path(file).parent if root is None else root)
        self.no_target = no_target
        self._lines = np.array(list(self._usable()), dtype=np.int64).reshape(-1, 2)
        if not len(self._lines):
            raise ValueError(f"{self.file} has no line with a phrase")

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """See `SampleBuilder.build`; also `mask_infos` (plural, isthing), `file_name` and `phrases`."""
        number, entry = self.entry(index)
        with _naming(self.file, number):
            image, masks = open_entry(entry, self.root)
            targets = [words for words, regions in zip(entry.words, entry.regions, strict=True) if regions]
            stack = torch.from_numpy(masks)
            if not self.allow_empty_masks and targets:
                check_masks(stack[[bool(regions) for regions in entry.regions]], targets, entry.image)
            caption_ids, mask_ids = encode_phrases(self.builder.tokenizer, entry.text, entry.spans)
            return self.builder.build(
                image,
                caption_ids,
                mask_ids,
                stack,
                mask_infos=entry.infos,
                phrases=entry.words,
                file_name=Path(entry.image).name,
            )

    def entry(self, index: int) -> tuple[int, Entry]:
        """Return the number of the line, and what it says, of an item."""
        number, position = (int(value) for value in self._lines[index])
        with _naming(self.file, number), open(self.file, "rb") as file:
            file.seek(position)
            return number, self._chosen(parse(file.readline()))

    def _usable(self) -> Iterator[tuple[int, int]]:
        """Return the number and position of the lines with a phrase."""
        total = kept = 0
        seen: dict[int, int] = {}
        for number, position, line in read_lines(self.file):
            with _naming(self.file, number):
                entry = self._chosen(parse(line))
                check_new(seen, number, entry)
            total += 1
            if entry.spans:
                kept += 1
                yield number, position
        print_log(f"{self.file}: {kept} lines, {total - kept} without a phrase left out", "current")

    def _chosen(self, entry: Entry) -> Entry:
        """Return the entry without the phrases that are not wanted."""
        if self.no_target or all(entry.regions):
            return entry
        kept = [number for number, regions in enumerate(entry.regions) if regions]
        return replace(
            entry,
            spans=[entry.spans[number] for number in kept],
            regions=[entry.regions[number] for number in kept],
            infos=[entry.infos[number] for number in kept],
        )


def check_new(seen: dict[int, int], number: int, entry: Entry) -> None:
    """Refuse the picture and text of an earlier line; `seen` keeps a hash of each.

    Raises:
        ValueError: Names the earlier line.
    """
    earlier = seen.setdefault(hash((entry.image, entry.text)), number)
    if earlier != number:
        raise ValueError(f"the same picture and text as in line {earlier}: keep one of them")


@contextmanager
def _naming(file: str, number: int) -> Iterator[None]:
    """Put file and line in front of an error."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{file}, line {number}: {error}") from error
