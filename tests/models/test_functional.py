import pytest
import torch

from flmm.models.functional import crop_to_picture, fold_rows, merge_rows, resize_maps, rows_by_phrase, stack_maps


def test_fold_is_indexing():
    weights = torch.arange(2 * 3 * 10.0).view(2, 3, 10)
    view = torch.tensor([[1, 2], [5, 7]])
    (maps,) = fold_rows(weights, [view])
    assert maps.shape == (2, 3, 2, 2)
    assert maps[1, 2].tolist() == [[51.0, 52.0], [55.0, 57.0]]


@pytest.mark.parametrize(("merge", "expected"), [("mean", [2.0, 9.0]), ("max", [3.0, 9.0])])
def test_merge_rows(merge, expected):
    maps = torch.tensor([1.0, 9.0, 3.0]).view(1, 3, 1, 1)
    merged = merge_rows(maps, rows_by_phrase(torch.tensor([0, 1, 0])), merge)
    assert merged.flatten().tolist() == expected


@pytest.mark.parametrize(
    ("order", "expected"), [("view", [0, 1, 2, 3, 10, 11, 12, 13]), ("layer", [0, 1, 10, 11, 2, 3, 12, 13])]
)
def test_channel_order(order, expected):
    # value = 10 * view + 2 * layer + head
    channels = torch.arange(4.0).view(2, 2, 1, 1, 1)
    coarse, fine = channels.expand(2, 2, 3, 2, 2), (channels + 10).expand(2, 2, 3, 4, 4)
    stack = stack_maps([coarse, fine], order)
    assert stack.shape == (3, 8, 4, 4)
    assert stack[1, :, 3, 3].tolist() == expected


def test_resize_keeps_the_dtype_and_leading_dimensions():
    maps = torch.rand(2, 3, 4, 5, 5).bfloat16()
    assert resize_maps(maps, (10, 7)).shape == (2, 3, 4, 10, 7)
    assert resize_maps(maps, (10, 7)).dtype == torch.bfloat16
    assert resize_maps(maps, (5, 5)) is maps


def test_crop_uses_the_reference_rounding():
    meta = {
        "image_shape": {"height": 62, "width": 84},
        "padded_shape": {"height": 84, "width": 84},
        "padding": {"before_height": 11, "after_height": 11, "before_width": 0, "after_width": 0},
    }
    masks = torch.arange(64.0)[None, :, None].expand(1, 64, 64)
    cropped = crop_to_picture(masks, meta)
    assert cropped.shape == (1, 47, 64)  # int(62 * 64 / 84 + 0.5)
    assert cropped[0, 0, 0] == 8  # int(11 * 64 / 84)
