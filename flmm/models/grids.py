"""Where the tokens of a picture lie in it, for models whose processor lays them out itself."""

from math import isqrt
from typing import Any, Literal

from torch import Tensor


class SquareGrid:
    """A square view of the whole picture.

    Args:
        side: Rows and columns of the view; by default all image tokens are the view.
        at: Which image tokens are the view when there are others (crops, tiles): the 'first' or the 'last' side².
    """

    def __init__(self, side: int | None = None, at: Literal["first", "last"] = "first"):
        self.side, self.at = side, at

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> Tensor:
        """Positions [N] of the image tokens -> [side, side]; ValueError when there are not as many as that."""
        side = self.side or isqrt(len(positions))
        if len(positions) < side**2 or side == 0 or (self.side is None and side**2 != len(positions)):
            needed = f"{side} x {side}" if self.side else "a square number of them"
            raise ValueError(
                f"{len(positions)} image tokens in the input, needed {needed}: declare the grid of this processor, and "
                "check that processor and model belong together"
            )
        chosen = positions[: side**2] if self.at == "first" else positions[-(side**2) :]
        return chosen.view(side, side)


class PatchGrid:
    """A view at the picture's own proportions, whose size the processor gives (Qwen2-VL and its successors).

    Args:
        merge: Patches per token, in each direction.
        key: Entry of the processor's output with (frames, rows, columns) of patches.
    """

    def __init__(self, merge: int = 2, key: str = "image_grid_thw"):
        self.merge, self.key = merge, key

    def __call__(self, positions: Tensor, inputs: dict[str, Any]) -> Tensor:
        """Positions [N] of the image tokens -> [rows, columns]; ValueError when their number is another."""
        if self.key not in inputs:
            raise ValueError(
                f"the processor gives {sorted(inputs)}, but no {self.key!r}: PatchGrid is not for this model"
            )
        rows, columns = (int(length) // self.merge for length in inputs[self.key].flatten()[-2:])
        if len(positions) != rows * columns:
            raise ValueError(
                f"{len(positions)} image tokens in the input, but the picture has {rows} x {columns}: check `merge`, "
                "and that processor and model belong together"
            )
        return positions.view(rows, columns)
