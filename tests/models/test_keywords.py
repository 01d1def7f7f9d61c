"""The keyword selector: what it reads, selects, learns, and what it leaves alone."""

import pytest
import torch
from golden_cases import GoldenCase, build_llava
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from flmm.checkpoint import load_head, save_atomically, trainable
from flmm.models.backbone import Reading
from flmm.models.frozen_llava import FrozenLlavaSAM
from flmm.models.keywords import KeywordSelector, phrase_begins, select_phrases
from flmm.training.cache import TensorCache


@pytest.fixture(scope="module")
def case():
    return GoldenCase("llava15_a")


@pytest.fixture(scope="module")
def plain(case):
    model = build_llava(case)
    case.load_head(model)
    return model


@pytest.fixture(scope="module")
def model(case, plain):
    """The recorded head around the same LMM, with a selector."""
    torch.manual_seed(0)
    model = FrozenLlavaSAM(model=plain.backbone.model, **case.head_config(), keywords={"pos_weight": 2.0})
    model.load_state_dict(plain.state_dict(), strict=False)
    return model


@pytest.fixture
def samples(case):
    """A caption, and the same as if it were a referring expression."""
    (sample,) = case.samples()
    ids, length = sample["input_ids"], int((sample["mask_ids"] >= 0).nonzero()[0]) - 2  # two words before the phrase
    sample["labels"] = torch.where(torch.arange(len(ids)) < length, -100, ids)
    return [{**sample, "mask_infos": [{}] * len(sample["masks"])}, sample]


def text_of(sample):
    return sample["mask_ids"][sample["labels"] != -100]


def test_the_text_is_what_the_lmm_makes_of_its_tokens(model, samples):
    sample = samples[0]
    reading = model.read([sample])[0]
    tokens = model.read.tokens(sample)
    outputs = model.backbone.decoder(**tokens.inputs, output_hidden_states=True, use_cache=False)
    expected = torch.stack(outputs.hidden_states[1:])[:, 0, -len(text_of(sample)) :]
    assert 0 < len(text_of(sample)) < len(tokens.mask_ids)
    torch.testing.assert_close(reading.text, expected)
    assert torch.equal(reading.hidden, reading.text[:, text_of(sample) >= 0])


def test_masks_are_those_of_a_head_without(model, plain, samples):
    expected = plain(samples[0], mode="tensor")
    for key, value in model(samples[0], mode="tensor").items():
        torch.testing.assert_close(value, expected[key])
    assert plain.read(samples)[0].text is None


def test_texts_of_one_picture_are_kept_apart(model, samples):
    """Read together as one sequence, or each on its own."""
    first = samples[0]
    end = len(first["input_ids"]) - 1
    shorter = {**first, **{key: first[key][:end] for key in ("input_ids", "mask_ids", "labels")}}
    together = model.read([shorter, first])
    assert [reading.text.shape[1] for reading in together] == [len(text_of(shorter)), len(text_of(first))]
    for found, sample in zip(together, (shorter, first), strict=True):
        torch.testing.assert_close(found.text, model.read([sample])[0].text, atol=1e-5, rtol=1e-4)


def test_a_sample_that_does_not_say_what_its_text_is(model, samples):
    reading = model.read([{key: value for key, value in samples[0].items() if key != "labels"}])[0]
    assert reading.text.shape[1] == 0
    assert reading.hidden.shape[1] == (samples[0]["mask_ids"] >= 0).sum()


def test_loss_is_the_weighted_cross_entropy_of_caption_tokens(model, samples):
    phrases = text_of(samples[0])
    logits = model.keywords(model.read(samples[:1])[0].text)
    target = (phrases >= 0).float()
    weight = 1 + target  # pos_weight 2
    losses = model(samples, mode="loss")
    expected = (bce(logits[:, 0], target, reduction="none") * weight).sum() / weight.sum()
    torch.testing.assert_close(losses["loss_keywords"], expected)
    inside = phrases >= 0
    first = phrase_begins(phrases)[inside].float()
    assert 0 < first.sum() < len(first)
    torch.testing.assert_close(losses["loss_begins"], bce(logits[inside, 1], first))
    with torch.no_grad():
        without = model(samples[1:], mode="loss")
    assert float(without["loss_keywords"]) == float(without["loss_begins"]) == 0


def test_its_loss_reaches_the_selector_alone(model, samples):
    model.zero_grad(set_to_none=True)
    losses = model(samples, mode="loss")
    (losses["loss_keywords"] + losses["loss_begins"]).backward()
    learning = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    assert learning == {"keywords.layer_weights", "keywords.classifier.weight", "keywords.classifier.bias"}


def test_trained_alone(case, plain, samples, tmp_path):
    """A published head gets a selector: what it had stays bit by bit, and all of it is saved."""
    published = tmp_path / "head.pth"
    save_atomically({"state_dict": trainable(plain)}, published)
    settings = {"model": plain.backbone.model, **case.head_config()}
    with pytest.raises(ValueError, match=r"lacks 3 of the .* parameters of the head: keywords.*--only keywords"):
        load_head(FrozenLlavaSAM(**settings, keywords={}), published)

    model = FrozenLlavaSAM(**settings, train_only="keywords")
    load_head(model, published)
    head = trainable(model)
    optimizer = torch.optim.AdamW(head.values(), lr=0.05, weight_decay=0.01)
    before = {name: value.detach().clone() for name, value in head.items()}
    f1 = []
    for _ in range(40):
        losses = model(samples, mode="loss")
        assert set(losses) == {"loss_keywords", "loss_begins", "keywords_f1"}
        optimizer.zero_grad()
        (losses["loss_keywords"] + losses["loss_begins"]).backward()
        optimizer.step()
        f1.append(float(losses["keywords_f1"]))
    assert f1[-1] == 1 > f1[0]
    changed = {name for name, value in head.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in head if name.startswith("keywords.")}
    model([samples[1]], mode="loss")["loss_keywords"].backward()  # a batch without any caption

    words = list(range(len(text_of(samples[0]))))
    assert model.keywords.phrases(model.read(samples)[0].text, words) == text_of(samples[0]).tolist()
    save_atomically({"state_dict": head}, tmp_path / "both.pth")
    assert len(load_head(FrozenLlavaSAM(**settings, keywords={}), tmp_path / "both.pth").matched) == len(head)
    assert len(load_head(FrozenLlavaSAM(**settings), tmp_path / "both.pth").unexpected) == 3


def test_settings_that_make_no_sense(case, plain):
    settings = {"model": plain.backbone.model, **case.head_config()}
    with pytest.raises(ValueError, match="threshold 30"):
        FrozenLlavaSAM(**settings, keywords={"threshold": 30})
    with pytest.raises(ValueError, match="train_only='sam'"):
        FrozenLlavaSAM(**settings, train_only="sam")


def test_the_cache_keeps_texts(case, plain, samples, tmp_path):
    settings = {"model": plain.backbone.model, **case.head_config(), "cache": TensorCache(tmp_path, 1, ["lmm"])}
    cold = FrozenLlavaSAM(**settings, keywords={})
    expected = cold.read(samples[:1])
    found = FrozenLlavaSAM(**settings, keywords={}).read(samples[:1])
    assert cold.cache.stores["lmm"].found == 1
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own.text, other.text)
        assert torch.equal(own.hidden, other.hidden)
    assert FrozenLlavaSAM(**settings).read(samples)[0].text is None  # entries of another kind


def test_a_word_is_its_best_token_and_neighbours_are_one_phrase():
    words = [0, 1, 1, 2, 3, 4]
    scores = [0.9, 0.1, 0.5, 0.2, 0.31, 0.3]
    assert select_phrases(scores, [0] * 6, words, 0.3) == [0, 0, 0, -1, 1, -1]
    assert select_phrases(scores, [0, 0, 0.6, 0, 0, 0], words, 0.3) == [0, 1, 1, -1, 2, -1]
    assert select_phrases(scores, [0, 0, 0.6, 0, 0, 0], words, 0.3, cut=False) == [0, 0, 0, -1, 1, -1]
    assert select_phrases([], [], [], 0.3) == []


def test_one_logit_cannot_cut():
    selector = KeywordSelector(2, 4, begins=False)
    with torch.no_grad():
        selector.classifier.bias.fill_(9)
    hidden = torch.zeros(2, 3, 4)
    assert selector(hidden).shape == (3, 1)
    assert selector.phrases(hidden, [0, 1, 2]) == [0, 0, 0]
    mask_ids = torch.tensor([-1, 0, 0, 1])
    assert set(selector.loss([Reading([], hidden, mask_ids, hidden)])) == {"loss_keywords", "keywords_f1"}
