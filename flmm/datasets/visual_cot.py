"""Questions of the visual chain-of-thought benchmark (VisCoT), in the files that its authors publish."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASKS_FOR_BOX = "Please provide the bounding box coordinate of the region that can help you answer the question better."
EXTENSIONS = (".jpg", ".jpeg", ".png")
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Item:
    """Hold a question about a picture.

    Attributes:
        subset: Name of its file.
        question_id: Number in the file.
        question: The question alone.
        answer: The right answer.
        image: Path of the picture below the image folder, as the file has it.
        box: x0, y0, x1, y1 of the region that helps, in pixels, as the file has it; some are no boxes.
    """

    subset: str
    question_id: int
    question: str
    answer: str
    image: str
    box: Box

    @property
    def true_box(self) -> Box | None:
        """Give the box where it is one."""
        return self.box if is_box(self.box) else None


def is_box(box: Sequence[int]) -> bool:
    """Say whether coordinates make a box: none is negative, and there is an area."""
    return 0 <= box[0] < box[2] and 0 <= box[1] < box[3]


def read_items(path: str | Path) -> list[Item]:
    """Read a file of the benchmark.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is of another format; names the item.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no benchmark file {path}: docs/visual_cot.md tells where they come from")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): fetch it again") from error
    return [_item(path, index, entry) for index, entry in enumerate(content)]


def _item(path: Path, index: int, entry: Any) -> Item:
    try:
        turns = [turn["value"] for turn in entry["conversations"]]
        image, with_box = entry["image"]
        box = tuple(int(side) for side in json.loads(with_box.rpartition("###")[2]))
        x0, y0, x1, y1 = box
        question = turns[0].replace(ASKS_FOR_BOX, "").replace("<image>", "").strip()
        return Item(path.stem, int(entry["question_id"]), question, turns[3], image, (x0, y0, x1, y1))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}, item {index}: {type(error).__name__} {error}; expected question_id, image [path, path###[box]] "
            "and four conversations, as in the published files"
        ) from error


def picture_files(items: Sequence[Item], folder: str | Path) -> list[Path]:
    """Find the picture of each item; another extension of the same name counts as well.

    Raises:
        FileNotFoundError: When pictures are missing; says how many.
    """
    files = [_picture_file(Path(folder, item.image)) for item in items]
    missing = sorted({item.image for item, file in zip(items, files, strict=True) if file is None})
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len({item.image for item in items})} pictures of {items[0].subset} are not in "
            f"{folder}, e.g. {missing[0]}: set --image_folder to the folder that holds `cot` (docs/visual_cot.md)"
        )
    return [file for file in files if file is not None]


def _picture_file(path: Path) -> Path | None:
    return next((file for file in (path, *map(path.with_suffix, EXTENSIONS)) if file.is_file()), None)
