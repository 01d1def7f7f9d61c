"""Where the tokens of a picture lie in it, for models whose processor lays them out itself.

A grid rule is called with the positions [N] of all image tokens and what the processor gave beside them. It returns the
views, each [h, w], coarse before fine; tokens that show no part of the picture (newlines) are in none of them.
`num_views` says how many there are.
"""

from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor

# What processors call the size of a picture, in patches or (the last one) in pixels.
_SIZES = ("image_grid_thw", "image_grid_hw", "spatial_shapes", "target_sizes", "image_position_ids", "image_sizes")
# What processors call the rows and columns of its tiles.
_TILES = (("rows", "cols"), ("image_rows", "image_cols"))
# What Molmo 2's processor calls rows and columns of the whole picture, then of its tiles put together.
_BOTH = "image_grids"


class SquareGrid:
    """Lay out a square view of the whole picture.

    Args:
        side: Rows and columns of the view; by default all image tokens are the view.
        at: Which image tokens are the view when there are others (crops, tiles): the 'first' or the 'last' side².
    """

    num_views = 1

    def __init__(self, side: int | None = None, at: Literal["first", "last"] = "first"):
        self.side, self.at = side, at

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """Turn positions [N] of the image tokens into [side, side]; ValueError for another number."""
        side = self.side or isqrt(len(positions))
        if len(positions) < side**2 or side == 0 or (self.side is None and side**2 != len(positions)):
            needed = f"{side} x {side}" if self.side else "a square number of them"
            raise ValueError(
                f"{len(positions)} image tokens in the input, needed {needed}: declare the grid of this processor, and "
                "check that processor and model belong together"
            )
        chosen = positions[: side**2] if self.at == "first" else positions[-(side**2) :]
        return [chosen.view(side, side)]


class PatchGrid:
    """Lay out a view in the picture's proportions; the processor gives its size (Qwen2-VL and its successors).

    Args:
        merge: What one token spans, in each direction, in the unit of the processor (patches or pixels); by default
            whatever makes their number fit.
        key: Entry of the processor's output that ends with rows and columns; by default the first of `_SIZES`.
        newline: Whether a token without a place ends each row (Emu3, Hunyuan-VL).
        ends: Tokens without a place before the first row, and as many behind the last (Hunyuan-VL).
    """

    num_views = 1

    def __init__(self, merge: int | None = None, key: str | None = None, newline: bool = False, ends: int = 0):
        self.merge, self.key, self.newline, self.ends = merge, key, newline, ends

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """Turn positions [N] of the image tokens into [rows, columns]; ValueError for another number."""
        key = self.key or next((name for name in _SIZES if name in inputs), _SIZES[0])
        height, width = _size(_entry(inputs, key, self), key)
        positions = positions[self.ends : len(positions) - self.ends]
        merges = [self.merge] if self.merge else range(1, min(height, width) + 1)
        for merge in merges:
            rows, columns = height // merge, width // merge
            if rows * (columns + self.newline) == len(positions):
                return [positions.view(rows, columns + self.newline)[:, :columns]]
        size = f"{height // (self.merge or 1)} x {width // (self.merge or 1)}"
        raise ValueError(
            f"{len(positions)} image tokens in the input, but the picture has {size} ({key}): check `merge`, "
            "and that processor and model belong together"
        )


class TileGrid:
    """Lay out the whole picture and its tiles (SmolVLM, InternVL, Cohere2: tiles first; Ovis2: tiles last).

    Args:
        side: Rows and columns of tokens of a tile, and of the whole picture; by default what makes their number fit.
        whole: Whether the whole picture is the 'first' or the 'last' part.
    """

    num_views = 2

    def __init__(self, side: int | None = None, whole: Literal["first", "last"] = "last"):
        self.side, self.whole = side, whole

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """Turn positions [N] into [side, side] and [rows · side, columns · side]; `layout` is rows x columns of tiles.

        A picture that is one tile, without a second one of the whole picture, is both views.

        Raises:
            ValueError: When the processor gave another number of tokens.
        """
        rows, columns = _tiles(inputs, self)
        count = rows * columns
        side = self.side or _side(len(positions), count + 1) or _side(len(positions), count) or 1
        parts = len(positions) / side**2
        if parts == count == 1:
            return [positions.view(side, side)] * 2
        if count < 1 or parts != count + 1:
            raise ValueError(
                f"{len(positions)} image tokens in the input, needed {side} x {side} for each of {rows} x {columns} "
                "tiles and as many for the whole picture: check `side`, and that `layout` is that of this processor, "
                "which has to cut the picture (do_image_splitting=True; crop_to_patches=True)"
            )
        squares = positions.view(-1, side, side)
        whole, tiles = (squares[0], squares[1:]) if self.whole == "first" else (squares[-1], squares[:-1])
        tiles = tiles.unflatten(0, (rows, columns))  # [rows, columns, side, side]
        return [whole, tiles.transpose(1, 2).reshape(rows * side, columns * side)]


class AnyresGrid:
    """Lay out the whole picture, then its tiles put together (LLaVA-OneVision, LLaVA-NeXT, Granite 4 Vision, Molmo 2).

    A newline ends each row of the tiles, unless the processor says rows and columns of both views (Molmo 2).

    Args:
        side: Rows and columns of tokens of the whole picture; by default what makes their number fit.
    """

    num_views = 2

    def __init__(self, side: int | None = None):
        self.side = side

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """Turn positions [N] into [side, side] and [rows, columns]; `layout` leaves the newlines out.

        Raises:
            ValueError: When the number of tokens is another, or none is left without the padding.
        """
        if "layout" not in inputs and _BOTH in inputs:
            *whole, rows, columns = (int(number) for number in torch.as_tensor(inputs[_BOTH]).flatten()[-4:])
            newline = 0
        else:
            rows, columns = _entry(inputs, "layout", self)
            newline = 1
            whole = [self.side or isqrt(max(len(positions) - rows * (columns + 1), 0))] * 2
        coarse = whole[0] * whole[1]
        if rows * columns == 0 or len(positions) != coarse + rows * (columns + newline):
            raise ValueError(
                f"{len(positions)} image tokens in the input, needed {whole[0]} x {whole[1]} and {rows} rows of "
                f"{columns}{' with a newline' * newline}: check `side`, and that processor and model belong together; "
                "too narrow pictures have none"
            )
        fine = positions[coarse:].view(rows, columns + newline)[:, :columns]
        return [positions[:coarse].view(*whole), fine]


def _size(entry: Any, key: str) -> tuple[int, int]:
    """Rows and columns that a processor's entry says, which are its last numbers, or its largest places (Gemma 4)."""
    numbers = torch.as_tensor(entry)
    if key == "image_position_ids":  # [..., 2]: column and row of each patch, -1 for padding
        columns, rows = (int(number) + 1 for number in numbers.reshape(-1, 2).amax(0))
    else:
        rows, columns = (int(number) for number in numbers.flatten()[-2:])
    return rows, columns


def _tiles(inputs: dict[str, Any], rule: Any) -> tuple[int, int]:
    """Rows and columns of tiles: the `layout` that was declared, or what the processor says itself."""
    for names in _TILES:
        if "layout" not in inputs and all(name in inputs for name in names):
            rows, columns = (int(torch.as_tensor(inputs[name]).flatten()[-1]) for name in names)
            return rows, columns
    return _entry(inputs, "layout", rule)


def _side(tokens: int, parts: int) -> int:
    """Rows and columns of each of several squares; 0 when the tokens are not as many."""
    side = isqrt(tokens // max(parts, 1))
    return side if side**2 * parts == tokens else 0


def _entry(inputs: dict[str, Any], key: str, rule: Any) -> Any:
    if key not in inputs:
        raise ValueError(
            f"the processor gives {sorted(inputs)}, but no {key!r}: {type(rule).__name__} is not for this model, or "
            "its image processor was declared without `layout`"
        )
    return inputs[key]
