"""Run lengths, polygons and boxes become masks, or an error that says what is wrong."""

import numpy as np
import pytest
from pycocotools import mask as coco

from flmm.datasets.regions import as_mask, as_rle, box_mask
from flmm.masks import encode_mask as encode

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.999, 1])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (300, 400)])
def test_run_lengths_of_any_mask_come_back(size, share):
    mask = RNG.random(size) < share
    assert (as_mask(encode(mask), size) == mask).all()


def test_run_lengths_as_numbers_and_as_bytes():
    mask = RNG.random((6, 9)) < 0.4
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert (as_mask(rle) == mask).all()
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    counts = [0, *counts] if flat[0] else counts
    assert (as_mask({"size": [6, 9], "counts": counts}) == mask).all()


SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]


@pytest.mark.parametrize(
    "region", [SQUARE, [SQUARE], [[2, 1], [6, 1], [6, 5], [2, 5]], [[[2, 1], [6, 1], [6, 5], [2, 5]]]]
)
def test_polygons_in_each_writing(region):
    mask = as_mask(region, (8, 10))
    assert mask[1:5, 2:6].all()
    assert mask.sum() == 16


def test_several_polygons_are_joined():
    assert as_mask([SQUARE, [7, 5, 9, 5, 9, 7, 7, 7]], (8, 10)).sum() == 16 + 4


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"size": [8, 10]}, "have no counts"),
        ({"size": [10, 8], "counts": [80]}, r"are of size \[10, 8\], but the picture is \[8, 10\]"),
        ({"size": [8, 10], "counts": [79]}, "cover 79 pixels, but 8 x 10"),
        ({"size": [8, 10], "counts": [90, -10]}, "hold a negative one"),
        ({"size": [8, 10], "counts": None}, "neither text nor a list"),
        ({"size": [8, 10], "counts": "~~"}, "damaged or cut"),
        ({"size": [8, 10], "counts": "P"}, "damaged or cut"),
        ({"size": [8, 10], "counts": "1"}, "cover 1 pixels"),
        ({"size": None, "counts": [80]}, "are of size None"),
        ({"size": [8], "counts": [8]}, r"are of size \[8\]"),
        (None, "neither run lengths nor polygons"),
        ("text", "neither run lengths nor polygons"),
        ([], "neither run lengths nor polygons"),
        ([0.1, 0.1, 0.9, 0.1, 0.5, 1], "within 0 and 1: write pixels"),
        ([[1, 2, 3, 4]], "three points or more"),
        ([[1, 2, 3, 4, 5]], "three points or more"),
        ([[1, 2, 3, 4, 5, float("nan")]], "no pixels"),
        ([[1, 2, 3, 4, 5, "x"]], "are no numbers"),
    ],
)
def test_what_is_no_region_is_refused(region, message):
    with pytest.raises(ValueError, match=message):
        as_rle(region, (8, 10))


def test_boxes():
    assert box_mask([1, 2, 3, 5], (8, 10)).sum() == 2 * 3
    assert box_mask([-5, 6, 3, 50], (8, 10)).sum() == 3 * 2
    for box in ([3, 2, 1, 5], [1, 2, 3], [1, 2, 1.2, 5], "box", None):
        with pytest.raises(ValueError, match="box|numbers"):
            box_mask(box, (8, 10))
