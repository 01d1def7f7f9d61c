"""Drawings hold their text and their targets whatever these are, and are written whatever their size."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from flmm.evaluation.drawings import INK, draw, save_picture, text_block, wrapped

CHINESE = "\u56fe\u7247\u4e2d\u6709\u4e00\u53ea\u68d5\u8272\u7684\u5c0f\u72d7" * 12


@pytest.fixture
def grounding():
    masks = np.zeros((2, 30, 40), bool)
    masks[0, :9, :9] = masks[1, 12:, 20:] = True
    return SimpleNamespace(
        image=Image.new("RGB", (40, 30), (90, 120, 200)),
        text="a dog and a cat",
        phrases=["a dog", "a cat"],
        spans=[(0, 5), (10, 15)],
        masks=masks,
        coarse_masks=masks,
        boxes=np.array([[0, 0, 9, 9], [20, 12, 40, 30]], np.float32),
        scores=np.array([0.9, 0.8]),
        attention=np.random.default_rng(0).random((2, 6, 8)),
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda masks: masks.astype(np.uint8),
        lambda masks: masks.astype(np.uint8) * 255,
        lambda masks: masks.astype(np.float32),
        torch.from_numpy,
        lambda masks: torch.from_numpy(masks).byte(),
    ],
)
def test_targets_of_any_kind_make_the_same_picture(grounding, change):
    targets = np.roll(grounding.masks, 3, axis=2)
    np.testing.assert_array_equal(np.asarray(draw(grounding, change(targets))), np.asarray(draw(grounding, targets)))


@pytest.mark.parametrize("targets", [np.zeros((1, 30, 40), bool), np.zeros((2, 10, 10), bool), np.full((2, 30, 40), 7)])
def test_targets_that_are_no_masks_of_the_phrases_are_refused(grounding, targets):
    with pytest.raises(ValueError, match="targets"):
        draw(grounding, targets)


@pytest.mark.parametrize("text", [CHINESE, "/home/" + "x" * 200, "a dog " + CHINESE + " " + "W" * 150, "short"])
def test_all_letters_of_a_text_are_inside_the_block(text):
    lines = wrapped([(word, INK) for word in text.split()], 100, lambda piece: 10 * len(piece))
    assert "".join(piece for line in lines for piece, _ in line).split() == text.split()
    assert all(10 * len("".join(piece for piece, _ in line).rstrip()) <= 100 for line in lines)
    block = text_block(text, [(0, 2)], 300)
    assert block.width == 300


def test_letters_with_their_marks_stay_together():
    lines = wrapped([("e\u0301" * 30, INK)], 10, len)
    assert {piece.strip() for line in lines for piece, _ in line} == {"e\u0301"}


@pytest.mark.parametrize(("ending", "limit"), [("webp", 16383), ("jpg", 65500)])
def test_a_drawing_that_its_format_cannot_hold_is_made_smaller(tmp_path, ending, limit):
    save_picture(Image.new("RGB", (100, limit + 1000)), path := tmp_path / f"tall.{ending}")
    with Image.open(path) as image:
        assert image.height == limit


def test_a_drawing_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="cannot write .*none/a.png"):
        save_picture(Image.new("RGB", (10, 10)), tmp_path / "none/a.png")
