"""Explanations of replies: what is known in advance, and what the embedded model shows."""

import math

import numpy as np
import pytest
import torch
from families import picture

import flmm
from flmm.chat.explain import scored, token_maps
from flmm.chat.faithful import faithful
from flmm.chat.look import crop_box
from flmm.chat.regions import cell_weights, hide, region_mask
from flmm.chat.reply import Phrase
from flmm.datasets.shapes.drawing import render
from flmm.datasets.shapes.scene import FIRST_SHAPE, sample_scene


@pytest.fixture(scope="module")
def model():
    return flmm.load(device="cpu")


@pytest.fixture(scope="module")
def image():
    return picture((200, 150))  # a ball on the left, padded above and below


@pytest.fixture(scope="module")
def reply(model, image):
    return model.chat(image).ask(max_new_tokens=30)


def box_mask(height, width, y0, y1, x0, x1):
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_cells_are_weighed_by_what_is_covered():
    weights = cell_weights(box_mask(40, 60, 10, 25, 0, 30), (4, 6))
    assert weights[:, 3:].sum() == 0
    assert weights[:, 0].tolist() == [0, 1, 0.5, 0]


def test_share_lift_and_z_are_right_for_a_known_map():
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 2] = 0.3  # looks at one cell only
    maps[1] = 0.1  # looks everywhere alike
    weights = cell_weights(box_mask(40, 40, 10, 20, 20, 30), (4, 4))
    one, even = scored(maps, weights, [(Phrase("a", 0, 1), [0]), (Phrase("b", 1, 2), [1])])
    assert (one.share, one.lift) == pytest.approx((1, 16))
    assert one.z > 100  # elsewhere there is nothing
    assert (even.share, even.lift, even.z) == pytest.approx((1 / 16, 1, 0), abs=1e-4)
    (whole,) = scored(maps, torch.ones(4, 4), [(Phrase("ab", 0, 2), [0, 1])])
    assert (whole.share, whole.lift) == pytest.approx((1, 1))
    assert math.isnan(whole.z)


def test_a_heat_map_shows_the_picture_without_padding(reply, image):
    phrase = reply.phrases()[0]
    heatmap = reply.token_to_region(phrase)
    assert heatmap.text == phrase.text
    height, width = heatmap.share.shape
    assert width == 12
    assert height == 9
    assert float(heatmap.share.sum()) == pytest.approx(1, abs=1e-5)
    assert float(heatmap.lift.mean()) == pytest.approx(1, abs=1e-5)
    ball = reply.region_to_token(box=(10, 10, 100, 100))
    found = next(one for one in ball.phrases if one.phrase == phrase)
    inside = (heatmap.share * cell_weights(ball.region, (height, width))).sum()
    assert found.share == pytest.approx(float(inside), abs=1e-5)
    assert heatmap.draw().width > 600


def test_layers_and_heads_are_chosen_and_their_mean_is_all_of_them(reply):
    every = torch.stack([token_maps(reply, layer, head) for layer in range(4) for head in range(8)])
    torch.testing.assert_close(every.mean(0), token_maps(reply))
    assert torch.equal(token_maps(reply, -1, 2), token_maps(reply, 3, 2))
    with pytest.raises(ValueError, match="layer=4, but the LMM has 4"):
        token_maps(reply, 4)
    with pytest.raises(ValueError, match="head='sum', but the LMM has 8"):
        token_maps(reply, head="sum")


def test_words_are_ranked_by_their_look_at_a_region(reply):
    found = reply.region_to_token(box=(-50, 10, 100, 100))
    lifts = [one.lift for one in found.ranked()]
    assert lifts == sorted(lifts, reverse=True)
    assert [one.phrase.start for one in found.tokens] == [start for start, _ in reply.spans]
    phrases = found.ranked("phrases")
    assert phrases[0].phrase.text == "a large red circle"  # what the box holds
    assert [one.lift for one in phrases] == sorted((one.lift for one in phrases), reverse=True)
    assert sorted(one.phrase.start for one in phrases) == [phrase.start for phrase in reply.phrases()]
    assert found.draw().width > 600
    assert reply.region_to_token(mask=found.region).tokens == found.tokens


def test_hiding_what_was_named_changes_the_reply_and_hiding_nothing_does_not(model):
    pixels, regions = render(sample_scene(10_500_000))
    reply = model.chat(pixels).ask()  # the picture's description
    shape, corner = reply.occlude(mask=regions == FIRST_SHAPE), reply.occlude(box=(0, 0, 4, 4))
    assert shape.change.shape == (len(reply.token_ids),)
    assert shape.before.sum() == pytest.approx(float(corner.before.sum()))
    assert shape.change.sum() < 10 * corner.change.sum().clamp(max=-0.01)
    assert shape.draw().width > 600


def test_fills_of_what_is_hidden(reply, image):
    grey = box_mask(150, 200, 0, 150, 0, 200)
    assert {*np.asarray(hide(image, grey, "grey")).flatten().tolist()} == {128}
    with pytest.raises(ValueError, match="fill='black'"):
        reply.occlude(box=(0, 0, 9, 9), fill="black")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"box": (300, 0, 400, 9)}, "lies outside the picture of 200 x 150"),
        ({"box": (9, 9, 9, 20)}, "is empty: x1 must exceed x0"),
        ({"box": "abcd"}, "the box .abcd. must be four numbers"),
        ({"box": ("left", 2, 3, 4)}, "must be four numbers"),
        ({"box": (1, 2, 3)}, "must be four numbers"),
        ({"box": (0, 0, float("nan"), 3)}, "must be four numbers"),
        ({}, "give a region"),
        ({"mask": np.zeros((150, 200), dtype=bool)}, "the mask is empty"),
        ({"mask": np.ones((20, 20), dtype=bool)}, r"the mask is \[20, 20\], but must be \[150, 200\]"),
    ],
)
def test_regions_that_are_none_are_refused(image, region, message):
    with pytest.raises(ValueError, match=message):
        region_mask(image, **region)


def test_faithfulness_compares_attention_with_harm(reply, image):
    ball = box_mask(150, 200, 10, 76, 10, 101)
    found = faithful([reply, (reply, reply.phrases()[0])], [None, ball], grid=2)
    whole, phrase = found.trials
    assert whole.pointed is None
    assert phrase.pointed in (True, False)
    for trial in found.trials:
        assert trial.attention.sum() == pytest.approx(1, abs=1e-4)
        for order in ("attention", "random"):
            deletion, insertion = (trial.curves[name, order] for name in ("deletion", "insertion"))
            assert deletion[0] == insertion[-1] == pytest.approx(1, abs=1e-4)
            assert deletion[-1] == pytest.approx(insertion[0], rel=1e-3)
        assert trial.curves["deletion", "attention"][1] == pytest.approx(
            math.exp(-trial.harm[trial.attention.argmax()] / len(rows_of(reply, trial))), rel=1e-3
        )
    summary = found.summary()
    assert summary["trials"] == 2
    assert summary["chance"] == 0.25
    assert -1 <= summary["rank_correlation"] <= 1
    assert found.draw().width == 800
    with pytest.raises(ValueError, match="0 replies"):
        faithful([])


def rows_of(reply, trial):
    start = reply.text.index(trial.text)
    return [span for span in reply.spans if span[0] < start + len(trial.text) and start < span[1]]


def test_the_box_of_a_crop_is_the_reference_s():
    pixel = box_mask(100, 200, 0, 1, 0, 1)
    assert crop_box(np.zeros((100, 200), dtype=bool)) == (0, 0, 200, 100)
    assert crop_box(pixel) == (0, 0, 8, 8)
    square = box_mask(100, 200, 40, 61, 50, 91)  # 21 x 41 pixels around (70, 50)
    assert crop_box(square) == (50, 40, 90, 60)
    assert crop_box(square, box_scale=1.5) == (40, 35, 100, 65)
    assert crop_box(square, box_scale=20) == (0, 0, 200, 100)
    two = square | box_mask(100, 200, 90, 91, 150, 151)  # all parts of a mask count
    assert crop_box(two) == (50, 40, 150, 90)
    with pytest.raises(ValueError, match="box_scale=0"):
        crop_box(square, 0)


def test_a_second_look_asks_again_with_the_crop(model, image, tmp_path):
    chat = model.chat(image)
    with pytest.raises(ValueError, match="`ask` first"):
        chat.look(box=(0, 0, 10, 10))
    first = chat.ask()
    look = chat.look(box=(10, 10, 101, 76))
    assert look.first is first
    assert look.box == (10, 10, 100, 75)
    assert look.crop.size == (90, 65)
    assert [turn.pictures for turn in look.second.prompt.turns] == [2]
    assert look.second.question == first.question
    assert look.second.ground([(0, len(look.second.text))], picture=1).masks.shape == (1, 65, 90)
    phrase = chat.look(phrase=first.phrases()[0])
    assert phrase.box == crop_box(first.ground([first.phrases()[0]]).masks[0])
    assert chat.replies == [first]
    chat.save(tmp_path / "talk")
    loaded = flmm.Conversation.load(tmp_path / "talk", model)
    assert [(one.box, one.second.text) for one in loaded.looks] == [(one.box, one.second.text) for one in chat.looks]
    with pytest.raises(ValueError, match="give one of box="):
        chat.look(box=(0, 0, 9, 9), phrase="a")


def test_an_lmm_of_one_picture_looks_at_the_crop_alone(model, image):
    chat = model.chat(image)
    chat.ask(max_new_tokens=2)
    chat.model.builder.format.several = False
    try:
        look = chat.look(box=(10, 10, 101, 76), max_new_tokens=2)
    finally:
        chat.model.builder.format.several = True
    assert [picture.image.size for picture in look.second.prompt.pictures] == [(90, 65)]
