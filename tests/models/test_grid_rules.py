"""Grid rules that read the layout from what the processor says, and take no numbers."""

import pytest
import torch

from flmm.models.grids import AnyresGrid, PatchGrid, TileGrid


def tokens(count):
    return torch.arange(10, 10 + count)


@pytest.mark.parametrize(
    ("key", "value", "shape"),
    [
        ("image_grid_thw", [[1, 8, 12]], (4, 6)),
        ("image_grid_hw", [[8, 12]], (4, 6)),
        ("spatial_shapes", [[8, 12]], (4, 6)),
        ("target_sizes", [[16, 24]], (4, 6)),
        ("image_sizes", [[112, 168]], (4, 6)),
    ],
)
def test_what_a_token_spans_follows_from_their_number(key, value, shape):
    (view,) = PatchGrid()(tokens(24), {key: torch.tensor(value)})
    assert view.shape == shape
    assert view.flatten().tolist() == list(range(10, 34))


def test_places_of_patches_say_rows_and_columns():
    """Gemma 4 gives (column, row) of each patch, and pads with -1."""
    places = torch.tensor([[x, y] for y in range(6) for x in range(9)] + [[-1, -1]] * 3)
    (view,) = PatchGrid()(tokens(6), {"image_position_ids": places[None]})
    assert view.shape == (2, 3)


def test_newlines_and_ends_have_no_place():
    (view,) = PatchGrid(newline=True, ends=1)(tokens(2 + 4 * 7), {"image_grid_thw": torch.tensor([[1, 8, 12]])})
    assert view.shape == (4, 6)
    assert view[1].tolist() == [18, 19, 20, 21, 22, 23]


@pytest.mark.parametrize("merge", [None, 2])
def test_another_number_of_tokens_is_refused(merge):
    with pytest.raises(ValueError, match="23 image tokens in the input, but the picture has"):
        PatchGrid(merge)(tokens(23), {"image_grid_thw": torch.tensor([[1, 8, 12]])})


def test_tiles_that_the_processor_counts_need_no_layout():
    """Granite-Docling gives rows and columns itself; a picture of one tile has no second one."""
    whole, fine = TileGrid()(tokens(7 * 9), {"rows": [[2]], "cols": [[3]]})
    assert (whole.shape, fine.shape) == ((3, 3), (6, 9))
    assert whole[0, 0] == 10 + 6 * 9
    assert fine[0].tolist() == [10, 11, 12, 19, 20, 21, 28, 29, 30]
    alone, same = TileGrid()(tokens(9), {"rows": [[1]], "cols": [[1]]})
    assert alone.shape == same.shape == (3, 3)


def test_the_whole_picture_of_unpadded_tiles_needs_no_side():
    whole, fine = AnyresGrid()(tokens(16 + 5 * 8), {"layout": (5, 7)})
    assert (whole.shape, fine.shape) == ((4, 4), (5, 7))


def test_a_processor_that_says_both_views_needs_no_layout():
    """Molmo 2: a whole picture of 2 x 3 tokens, then 4 x 5 of its crops, without newlines."""
    whole, fine = AnyresGrid()(tokens(26), {"image_grids": torch.tensor([[2, 3, 4, 5]])})
    assert whole.tolist() == tokens(26)[:6].view(2, 3).tolist()
    assert fine.tolist() == tokens(26)[6:].view(4, 5).tolist()
    with pytest.raises(ValueError, match="25 image tokens in the input, needed 2 x 3 and 4 rows of 5: check"):
        AnyresGrid()(tokens(25), {"image_grids": torch.tensor([[2, 3, 4, 5]])})
