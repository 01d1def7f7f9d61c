"""What one user does, without a browser and without gradio."""

import base64
import io
import json
import time
import zipfile

import numpy as np
import pytest
from families import picture
from PIL import Image

import flmm
from flmm.masks import decode_mask
from flmm.web import view
from flmm.web.download import zipped
from flmm.web.explain import every_head, heat, hidden_region, looked, words_of_region
from flmm.web.handlers import CHANNELS, Handlers
from flmm.web.images import EDGE, INSIDE, grid, mask_url
from flmm.web.limits import Limits, RefusedError
from flmm.web.session import Session

REPLY = ("reply", 0)
LIMITS = Limits(tokens=12, turns=2, pictures=2, marks=3, phrases=2, characters=60, upload_megabytes=1)


@pytest.fixture
def session(model):
    session = Session(model, LIMITS)
    session.open(picture((168, 120)))
    return session


def decoded(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def refused(call):
    with pytest.raises(RefusedError) as refusal:
        call()
    return refusal.value.name


def test_a_reply_and_its_masks_are_those_of_the_library(model, session):
    said = "".join(session.ask("What is shown?"))
    chat = model.chat(picture((168, 120)))
    reply = chat.ask("What is shown?", 12)
    assert said == reply.text == view.talk(session)["turns"][0]["text"]
    assert view.talk(session)["turns"][0]["unknown"] == ["shown"]
    phrases = [(one["start"], one["end"]) for one in view.talk(session)["turns"][0]["phrases"]]
    assert phrases == [(one.start, one.end) for one in reply.phrases()]
    (mark,) = session.ground(REPLY, phrases[:1])
    grounding = reply.ground(phrases[:1])
    assert (decode_mask(mark.mask) == grounding.masks[0]).all()
    assert mark.box == grounding.boxes[0].tolist()
    (shown,) = view.marks(session)
    assert decoded(shown["refined"]).size == decoded(shown["coarse"]).size == (168, 120)
    assert decoded(shown["attention"]).size == grounding.attention.shape[1:][::-1]
    session.ground(REPLY, phrases[:1])
    assert len(session.room.marks) == 1


def test_a_typed_sentence_is_found_as_flmm_ground_finds_it(model, session):
    marks = session.say("a red yak on the grass", ["a red yak"])
    expected = model.ground(picture((168, 120)), "a red yak on the grass", ["a red yak"])
    assert (decode_mask(marks[0].mask) == expected.masks[0]).all()
    (more,) = session.ground(("sentence", 0), ["the grass"])
    assert (more.number, more.phrase.text) == (2, "the grass")
    (sentence,) = view.talk(session)["sentences"]
    assert sentence["text"] == "a red yak on the grass"
    assert sentence["unknown"] == ["yak"]
    with pytest.raises(ValueError, match="not in the text"):
        heat(session, ("sentence", 0), (2, 9), "mean", "mean")
    assert heat(session, ("sentence", 0), (13, 22), "mean", "mean")["text"] == "the grass"
    assert [one.phrase.text for one in session.say("a red yak on the grass")] == ["a red yak", "the grass"]


def test_explanations_are_those_of_the_library(model, session):
    list(session.ask("What is shown?"))
    reply, box = session.room.chat.replies[0], (20, 20, 90, 80)
    words = words_of_region(session, REPLY, session.region(box))
    assert [one["lift"] for one in words["tokens"]] == [round(one.lift, 4) for one in reply.region_to_token(box).tokens]
    hidden = hidden_region(session, REPLY, session.region(box))
    assert [one["change"] for one in hidden["tokens"]] == [round(one, 4) for one in reply.occlude(box).change.tolist()]
    assert decoded(hidden["picture"]).size == (168, 120)
    one = heat(session, REPLY, (0, 3), 1, "mean")
    found = reply.token_to_region((0, 3), layer=1)
    assert one["lift"] == round(float(found.lift.max()), 2)
    assert decoded(one["map"]).size == tuple(found.attention.shape[::-1])
    heads = every_head(session, REPLY, (0, 3))
    backbone = model.model.backbone
    assert (heads["layers"], heads["heads"]) == (backbone.num_layers, backbone.num_heads)
    layer, head = heads["sharpest"]
    lifts = [
        [float(reply.token_to_region((0, 3), layer=a, head=b).lift.max()) for b in range(backbone.num_heads)]
        for a in range(backbone.num_layers)
    ]
    assert lifts[layer][head] == pytest.approx(np.max(lifts), rel=1e-4)
    look = session.look(REPLY, box)
    assert looked(look)["first"] == reply.text
    assert looked(look)["second"] == look.second.text
    assert session.room.chat.replies == [reply]


def test_a_point_takes_the_smallest_mask_below_it(session):
    assert refused(lambda: session.region(point=(5, 5))) == "no_mask_here"
    session.say("a red ball on the grass", ["a red ball", "the grass"])
    masks = [decode_mask(mark.mask) for mark in session.room.marks]
    small = min((mask for mask in masks if mask.any()), key=np.sum)
    y, x = np.argwhere(small)[0]
    assert (session.region(point=(x, y))["mask"] == small).all()
    assert refused(lambda: session.region(point=(9999, -1))) == "no_mask_here"


def test_limits_are_kept(session):
    assert refused(lambda: list(session.ask(" "))) == "no_text"
    assert refused(lambda: list(session.ask("x" * 61))) == "long_text"
    assert refused(lambda: session.say("a b c", ["a", "b", "c"])) == "many_phrases"
    session.say("a red ball and the grass", ["a red ball", "the grass"])
    session.say("a red ball and the grass", ["a red ball", "the grass"])
    assert refused(lambda: session.say("a cat")) == "many_turns"
    assert [mark.number for mark in session.room.marks] == [2, 3, 4]
    session.open(picture((60, 60)))
    assert refused(lambda: session.open(picture((60, 60)))) == "many_pictures"
    list(session.ask("What is shown?", tokens=10_000))
    assert len(session.room.chat.replies[0].token_ids) <= LIMITS.tokens
    with pytest.raises(ValueError, match="seconds=0"):
        Limits(seconds=0)


@pytest.mark.parametrize("box", [None, "abcd", [1, 2, 3], [1, 2, 3, "x"], [0, 0, float("nan"), 5], [[1], 2, 3, 4]])
def test_no_region(session, box):
    assert refused(lambda: session.region(box)) == "no_region"


def test_a_box_without_a_pixel(session):
    assert refused(lambda: session.region([5, 5, 5, 9])) == "empty_box"
    assert refused(lambda: session.region([9, 5, 5, 9])) == "empty_box"
    assert refused(lambda: session.region([168, 0, 200, 9])) == "outside_box"
    assert refused(lambda: session.region([0, -9, 20, 0])) == "outside_box"
    assert session.region([-5, -5, 900, 900])["box"]


def test_nothing_before_there_is_a_picture_or_a_reply(model, session):
    assert refused(lambda: Session(model, LIMITS).room) == "no_picture_yet"
    assert refused(lambda: session.ground(REPLY, [(0, 1)])) == "nothing_said"
    assert refused(lambda: session.ground(("reply", -1), [(0, 1)])) == "nothing_said"
    assert refused(lambda: session.look(("sentence", 0), [1, 2, 3, 4])) == "only_replies"
    assert refused(lambda: session.select(3)) == "no_picture_yet"


def test_pictures_reset_and_close(session):
    session.say("a red ball")
    session.open(picture((60, 60)), add=session.model.builder.format.several)
    session.select(0)
    assert len(view.pictures(session)["strip"]) == 2
    assert view.marks(session)
    session.reset()
    assert view.marks(session) == view.talk(session)["sentences"] == []
    for _ in list(session.rooms):
        session.close(0)
    assert view.pictures(session) == {"strip": [], "shown": None}


def test_a_sentence_stays_with_its_picture(session):
    if not session.model.builder.format.several:
        pytest.skip("this LMM reads one picture at a time")
    session.say("a red ball")
    session.open(picture((60, 90)), add=True)
    (mark,) = session.ground(("sentence", 0), ["a red ball"])
    assert mark.picture == 0
    assert decode_mask(mark.mask).shape == (120, 168)
    assert view.marks(session) == []


def test_the_zip_goes_on_in_the_library(model, session, tmp_path):
    list(session.ask("What is shown?"))
    session.ground(REPLY, [(0, 3)])
    with zipfile.ZipFile(io.BytesIO(zipped(session))) as file:
        file.extractall(tmp_path)
    loaded = flmm.Conversation.load(tmp_path / "conversation_1", model)
    assert loaded.replies[0].text == session.room.chat.replies[0].text
    (mask,) = json.loads((tmp_path / "conversation_1/masks.json").read_text())
    assert mask["mask"] == session.room.marks[0].mask
    assert Image.open(tmp_path / "conversation_1/drawing_0.png").size == (168, 120)


def test_requests_of_the_page(model):
    handlers = Handlers(model, LIMITS, [])
    session, begun = handlers.session(None), time.monotonic()
    assert all(hasattr(handlers, name) for name in CHANNELS if name != "stop")
    for name in CHANNELS:  # whatever is sent, the answer is a sentence and not a failure of the server
        for data in ({}, {"source": ["reply", "x"]}, {"source": 5}, {"example": 7}, {"box": {}, "phrase": 3}):
            *_, last = handlers.page(name, session, {"id": 4, "language": "zh"} | data)
            assert last["status"]["id"] == 4
            assert name in ("stop", "close") or chinese(last["status"]["error"])
    assert time.monotonic() - begun < LIMITS.seconds
    (values,) = list(handlers.page("stop", session, {}))
    assert "error" not in values["status"]


def test_what_the_library_refuses_is_said_in_the_language_of_the_page(model, session):
    asked = {"id": 1, "text": "a red ball", "phrases": "a blue car"}
    (last,) = Handlers(model, LIMITS, []).page("say", session, asked | {"language": "zh"})
    assert chinese(last["status"]["error"])
    (last,) = Handlers(model, LIMITS, []).page("say", session, asked)
    assert last["status"]["error"].startswith("phrase 'a blue car' is not in the text")


def chinese(text):
    return "\u4e00" <= text[0] <= "\u9fff"


def test_masks_and_maps_as_pictures():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 10:30] = True
    values = np.asarray(decoded(mask_url(mask)))
    assert (values > 0).tolist() == mask.tolist()
    assert values[10, 10] == EDGE
    assert values[15, 15] == INSIDE
    assert max(decoded(mask_url(np.ones((3000, 10), dtype=bool))).size) == 640
    maps = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5)
    assert grid(maps).shape == (2 * 5, 3 * 6)
    assert grid(maps)[1:5, 1:6].tolist() == ((maps[0, 0] - 0) / 19).tolist()
