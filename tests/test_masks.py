"""Masks as arguments and as run lengths, and the boxes of objects."""

import numpy as np
import pytest
import torch

from flmm.boxes import masks_to_boxes, object_boxes
from flmm.masks import as_masks, decode_mask, encode_mask, has_pixels, run_length_problem, segmentation_problem

MASKS = np.zeros((2, 6, 8), bool)
MASKS[0, 1:3, 2:5] = MASKS[1, 4:, :3] = True


@pytest.mark.parametrize(
    "given",
    [
        MASKS,
        MASKS.astype(np.uint8),
        MASKS.astype(np.uint8) * 255,
        MASKS.astype(np.float32),
        MASKS.astype(np.int64),
        torch.from_numpy(MASKS),
        torch.from_numpy(MASKS).half().requires_grad_(),
        [mask.tolist() for mask in MASKS],
    ],
)
def test_masks_of_any_kind_are_the_same(given):
    found = as_masks(given, (2, 6, 8), "targets")
    assert found.dtype == bool
    np.testing.assert_array_equal(found, MASKS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (MASKS[:1], r"targets are \(1, 6, 8\), but there are 2 phrases in a picture of 6 x 8"),
        (MASKS[:, :3], r"give masks of shape \(2, 6, 8\)"),
        (MASKS[0], r"targets are \(6, 8\)"),
        (MASKS * 0.5, r"hold float64 values such as \[0.0, 0.5\]"),
        (MASKS * np.int64(3), "must be bool, or 0 and 1, or 0 and 255"),
        (np.where(MASKS, "a", "b"), "must be bool"),
    ],
)
def test_masks_that_are_none_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        as_masks(given, (2, 6, 8), "targets")


def random_masks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 200, 2)
        yield rng.random((height, width)) < rng.random() ** 3
    yield np.zeros((3, 4), bool)
    yield np.ones((300, 1200), bool)  # numbers of several letters


def test_run_lengths_are_checked_and_decoded():
    for mask in random_masks():
        code = encode_mask(mask)
        assert run_length_problem(code, *mask.shape) == ""
        assert has_pixels(code, *mask.shape) == mask.any()
        np.testing.assert_array_equal(decode_mask(code), mask)
        if mask.shape[0] != mask.shape[1]:
            assert "written as [width, height]?" in run_length_problem(code, *mask.shape[::-1])
        assert "cover" in run_length_problem(
            {**code, "size": [mask.shape[0], mask.shape[1] + 1]}, mask.shape[0], mask.shape[1] + 1
        )


def test_damaged_run_lengths_are_never_decoded():
    """pycocotools gives whatever was in memory for the pixels after the last run."""
    code = encode_mask(MASKS[0])
    for counts in (code["counts"][:-1], code["counts"] + "1", "\x7f", "ooooooooooooo"):
        with pytest.raises(ValueError, match="run lengths"):
            decode_mask({**code, "counts": counts})


def test_sound_segmentations():
    polygon = [1, 1, 5, 1, 5, 4, 1, 4]
    for segmentation in ([polygon], [polygon, [1, 1, 2]], [[str(v) for v in polygon]], [], encode_mask(MASKS[0])):
        assert segmentation_problem(segmentation, 6, 8) == ""
        assert has_pixels(segmentation, 6, 8) == bool(segmentation)
    assert not has_pixels([[100, 100, 140, 100, 140, 130]], 6, 8)


def test_specks_do_not_stretch_the_box_of_an_object():
    mask = np.zeros((100, 100), bool)
    mask[20:40, 30:60] = True  # 600 pixels
    assert object_boxes(mask[None]).tolist() == [[30, 20, 60, 40]]
    mask[90, 95:98] = mask[91, 98] = True  # 4 pixels that touch, some at a corner: less than 3 %
    assert object_boxes(mask[None]).tolist() == [[30, 20, 60, 40]]
    assert masks_to_boxes(torch.from_numpy(mask[None])).tolist() == [[30, 20, 99, 92]]  # what metrics use
    mask[70:76, 5:9] = True  # 24 pixels, 4 %, are a part of the object
    assert object_boxes(mask[None]).tolist() == [[5, 20, 60, 76]]


def test_boxes_of_empty_and_scattered_masks():
    scattered = np.zeros((200, 200), bool)
    scattered[::10, ::10] = True  # 400 components of one pixel
    boxes = object_boxes(np.stack([np.zeros((200, 200), bool), scattered]))
    assert boxes.tolist() == [[0, 0, 0, 0], [0, 0, 191, 191]]
    assert boxes.dtype == np.float32
    assert object_boxes(np.zeros((0, 5, 5), bool)).shape == (0, 4)
