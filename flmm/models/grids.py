"""Where the tokens of a picture lie in it, for models whose processor lays them out itself.

A grid rule is called with the positions [N] of all image tokens and what the processor gave beside them. It returns the
views, each [h, w], coarse before fine; tokens that show no part of the picture (newlines) are in none of them.
`num_views` says how many there are.
"""

from math import isqrt
from typing import Any, Literal

from torch import Tensor


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
        merge: Patches per token, in each direction.
        key: Entry of the processor's output with (frames, rows, columns) of patches.
    """

    num_views = 1

    def __init__(self, merge: int = 2, key: str = "image_grid_thw"):
        self.merge, self.key = merge, key

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """Turn positions [N] of the image tokens into [rows, columns]; ValueError for another number."""
        rows, columns = (int(length) // self.merge for length in _entry(inputs, self.key, self).flatten()[-2:])
        if len(positions) != rows * columns:
            raise ValueError(
                f"{len(positions)} image tokens in the input, but the picture has {rows} x {columns}: check `merge`, "
                "and that processor and model belong together"
            )
        return [positions.view(rows, columns)]


class TileGrid:
    """Lay out the whole picture and its tiles (SmolVLM, InternVL, Cohere2: tiles first; Ovis2: tiles last).

    Args:
        side: Rows and columns of tokens of a tile, and of the whole picture.
        whole: Whether the whole picture is the 'first' or the 'last' part.
    """

    num_views = 2

    def __init__(self, side: int, whole: Literal["first", "last"] = "last"):
        self.side, self.whole = side, whole

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """Turn positions [N] into [side, side] and [rows · side, columns · side]; `layout` is rows x columns of tiles.

        A picture that is one tile, without a second one of the whole picture, is both views.

        Raises:
            ValueError: When the processor gave another number of tokens.
        """
        (rows, columns), side = _entry(inputs, "layout", self), self.side
        count, parts = rows * columns, len(positions) / side**2
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
    """Lay out the whole picture, then its tiles without padding, a newline after each row (LLaVA-OneVision).

    Args:
        side: Rows and columns of tokens of the whole picture.
    """

    num_views = 2

    def __init__(self, side: int):
        self.side = side

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> list[Tensor]:
        """Turn positions [N] into [side, side] and [rows, columns]; `layout` leaves the newlines out.

        Raises:
            ValueError: When the number of tokens is another, or none is left without the padding.
        """
        (rows, columns), side = _entry(inputs, "layout", self), self.side
        if rows * columns == 0 or len(positions) != side**2 + rows * (columns + 1):
            raise ValueError(
                f"{len(positions)} image tokens in the input, needed {side} x {side} and {rows} rows of {columns} with "
                "a newline: check `side`, and that processor and model belong together; too narrow pictures have none"
            )
        return [positions[: side**2].view(side, side), positions[side**2 :].view(rows, columns + 1)[:, :-1]]


def _entry(inputs: dict[str, Any], key: str, rule: Any) -> Any:
    if key not in inputs:
        raise ValueError(
            f"the processor gives {sorted(inputs)}, but no {key!r}: {type(rule).__name__} is not for this model, or "
            "its image processor was declared without `layout`"
        )
    return inputs[key]
