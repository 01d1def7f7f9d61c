"""Every LMM family speaks as plain transformers lets it, and its replies are grounded as if they were read."""

import pytest
import torch
from families import picture
from plain_generate import plain

from flmm.api import GroundingModel
from flmm.chat.reply import phrase_of_tokens

QUESTIONS = ("What is shown here?", "And what is beside it?")
TOKENS = 7


@pytest.fixture(scope="module")
def model(built):
    return GroundingModel(built.model, built.builder)


@pytest.fixture(scope="module")
def rules(model):
    """No random LMM stops at once, or says the word for a picture."""
    return {"min_new_tokens": 4, "suppress_tokens": [model.builder.image_token_idx]}


def pictures(model):
    shown = [picture(), picture((80, 160))]
    return shown if model.builder.format.several else shown[:1]


def largest(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def test_ids_are_those_of_generate_and_grounding_is_that_of_reading(built, model, rules, record_property):
    """First and second turn, one and two pictures."""
    differences, same = [], []
    shows = {1: pictures(model)[:1], len(pictures(model)): pictures(model)}
    for shown in shows.values():
        chat = model.chat(shown)
        for question in QUESTIONS:
            reply = chat.ask(question, TOKENS, **rules)
            ids, log_probs = plain(built, reply.prompt, max_new_tokens=TOKENS + 1, **rules)
            assert 0 < len(reply.token_ids) <= TOKENS
            same.append(reply.token_ids == ids[: len(reply.token_ids)])
            assert same[-1]
            ended = ids[-1] in model.builder.tokenizer.all_special_ids  # also where it would have ended by itself
            assert reply.cut == (len(reply.token_ids) == TOKENS and not ended)
            found = model.model.read.log_probs(reply.prompt.sample(reply.token_ids))
            torch.testing.assert_close(found, log_probs[: len(found)], atol=2e-4, rtol=1e-3)
            differences += compared_with_reading(reply)
    record_property("family", built.name)
    record_property("LMM", type(built.model.backbone.model).__name__)
    record_property("pictures", " and ".join(map(str, shows)))
    record_property("replies", str(len(same)))
    record_property("ids equal", str(sum(same)))
    record_property("grounding, largest difference", f"{max(differences):.1e}")
    assert max(differences) < 1e-4


def compared_with_reading(reply):
    half = len(reply.token_ids) // 2
    mask_ids = torch.tensor([0] * half + [1] * (len(reply.token_ids) - half))
    said = reply.reading(mask_ids)
    kept, reply.answer = reply.answer, None
    read = reply.reading(mask_ids)
    reply.answer = kept
    yield largest(said.hidden, read.hidden)
    assert len(said.attention) == len(read.attention)
    assert len(said.attention) % len(reply.prompt.pictures) == 0
    for one, other in zip(said.attention, read.attention, strict=True):
        assert one.shape == other.shape
        yield largest(one, other)


def test_each_picture_is_grounded_in_its_frame(model, rules):
    shown = pictures(model)
    reply = model.chat(shown).ask(QUESTIONS[0], TOKENS, **rules)
    if not reply.text:  # a random LMM may say nothing visible
        with pytest.raises(ValueError, match="the LMM said nothing"):
            reply.ground()
        return
    spans = [(0, len(reply.text))]
    for index, image in enumerate(shown):
        grounding = reply.ground(spans, picture=index)
        assert grounding.masks.shape == (1, image.height, image.width)
        again = model.chat(shown)
        read = type(reply)(reply.prompt, reply.token_ids).ground(spans, picture=index)
        assert (read.masks != grounding.masks).mean() < 1e-3
        assert abs(read.scores - grounding.scores).max() < 1e-3
        assert again.replies == []
    with pytest.raises(ValueError, match=f"picture {len(shown)} of {len(shown)}"):
        reply.ground(spans, picture=len(shown))


def test_several_pictures_are_read_or_refused(built, model):
    if model.builder.format.several:
        assert len(model.chat([picture(), picture()]).pictures) == 2
        return
    name = type(built.model.backbone.model).__name__
    with pytest.raises(ValueError, match=f"{name} reads one picture at a time"):
        model.chat([picture(), picture()])


def test_phrase_of_tokens_covers_what_it_touches():
    assert phrase_of_tokens([(0, 1), (1, 3), (3, 6)], [(2, 4)]).tolist() == [-1, 0, 0]
