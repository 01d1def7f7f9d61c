"""Reading in batches, and reading while the LMM answers, give what reading one text after the other gives."""

import pytest
import torch
from families import picture

from flmm.api import GroundingModel
from flmm.models.backbone import Tokens
from flmm.models.packing import pack, same_picture
from flmm.models.reader import padded, passes

TEXTS = [
    ("a ball on the grass", ["a ball", "grass"]),
    ("a red ball beside a tree and a small dog", ["a red ball", "dog"]),
]


@pytest.fixture(scope="module")
def model(built):
    return GroundingModel(built.model, built.builder)


def close(found, expected, tolerance=1e-4):
    scale = expected.abs().max()
    assert float((found - expected).abs().max()) <= tolerance * float(scale)


def test_a_batch_equals_one_by_one(model):
    samples = [
        model.builder.ground(picture(size), *text) for size, text in zip([(150, 110), (80, 160)], TEXTS, strict=True)
    ]
    together = model.model(samples, mode="tensor")
    for sample, output in zip(samples, together, strict=True):
        alone = model.model(sample, mode="tensor")
        assert torch.equal(output["mask_ids"], alone["mask_ids"])
        for key in ("mask_attentions", "hidden_states", "pred_masks", "sam_pred_masks"):
            close(output[key], alone[key], 1e-3 if key.endswith("masks") else 1e-4)


def about_one_picture(model):
    image = picture()
    samples = [model.builder.ground(image, *text) for text in TEXTS]
    return [sample | {"pixel_values": samples[0]["pixel_values"]} for sample in samples]


def test_texts_about_one_picture_are_read_as_one_sequence(model, monkeypatch):
    config = model.model.backbone.decoder.config
    if getattr(config, "sliding_window", None):
        monkeypatch.setattr(config, "sliding_window", 1000)  # as real ones are, longer than the sequence
    samples = about_one_picture(model)
    longest = max(len(model.model.backbone.tokens(sample).mask_ids) for sample in samples)
    monkeypatch.setattr(type(model.model.backbone), "max_length", longest)  # of one text, not of all
    assert list(same_picture(samples, 1000)) == [[0, 1]]
    assert pack(model.model.backbone, samples) is not None
    for sample, output in zip(samples, model.model(samples, mode="tensor"), strict=True):
        alone = model.model(sample, mode="tensor")
        assert torch.equal(output["mask_ids"], alone["mask_ids"])
        for key in ("mask_attentions", "hidden_states", "pred_masks", "sam_pred_masks"):
            close(output[key], alone[key], 2e-5)


def test_texts_that_the_lmm_cannot_tell_apart_are_read_one_by_one(model, monkeypatch):
    monkeypatch.setattr(model.model.backbone.decoder.config, "sliding_window", 10, raising=False)
    samples = about_one_picture(model)
    assert pack(model.model.backbone, samples) is None
    if not getattr(model.model.backbone, "prefix_lm", False):  # with a window, PaliGemma is PaliGemma 2: two masks
        assert len(model.model.read(samples)) == len(samples)


def test_an_answer_is_captured_while_it_is_given(model):
    answer = model.model.read.generate(model.builder.build(picture(), [], []), max_new_tokens=6, do_sample=False)
    assert 0 < len(answer.token_ids) <= 6
    same_as_read(answer, model)


def same_as_read(answer, model):
    """An answer is what reading it as a text gives."""
    half = len(answer.token_ids) // 2
    mask_ids = torch.tensor([0] * half + [1] * (len(answer.token_ids) - half))
    mask_ids -= int(half == 0)
    sample = model.builder.build(picture(), answer.token_ids.tolist(), mask_ids.tolist())
    (expected,) = model.model.read([sample])
    found = answer.reading(mask_ids)
    for view, expected_view in zip(found.attention, expected.attention, strict=True):
        close(view, expected_view)
    close(found.hidden, expected.hidden)


def test_an_answer_may_end_before_it_begins(model):
    sample = model.builder.build(picture(), [], [])
    answer = model.model.read.generate(sample, max_new_tokens=4, do_sample=False, eos_token_id=list(range(10_000)))
    assert len(answer.token_ids) == 0
    assert [view.shape[2:] for view in answer.attention] == [
        (0, *view.shape) for view in model.model.backbone.tokens(sample).views
    ]


def test_how_an_answer_is_found_is_observed_or_refused(model):
    sample = model.builder.build(picture(), [], [])
    if model.model.backbone.decoder.config.model_type == "llama":
        static = {"do_sample": False, "cache_implementation": "static"}  # it has room for later tokens
        same_as_read(model.model.read.generate(sample, max_new_tokens=4, **static), model)
    with pytest.raises(ValueError, match="num_beams and num_return_sequences must be 1"):
        model.model.read.generate(sample, max_new_tokens=4, num_beams=2)


def test_an_answer_sees_the_picture_once(model):
    calls = []
    backbone, sample = model.model.backbone, model.builder.build(picture(), [], [])
    convolutions = [part for part in backbone.model.modules() if isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d)]
    hooks = [part.register_forward_hook(lambda part, *_: calls.append(part)) for part in convolutions]
    backbone.tokens(sample)
    once = len(calls)
    model.model.read.generate(sample, max_new_tokens=2, do_sample=False)
    [hook.remove() for hook in hooks]
    assert len(calls) == 2 * once > 0


def test_the_phrases_of_an_answer_are_grounded(model):
    reply = model.answer(picture(), max_new_tokens=12)
    if not reply.text:  # a random LMM may stop at once
        with pytest.raises(ValueError, match="the LMM said nothing"):
            reply.ground()
        return
    grounding = reply.ground([(0, len(reply.text))])
    assert grounding.masks.shape == (1, 110, 150)
    assert grounding.phrases == [reply.text]


def tokens(length, **inputs):
    return Tokens({"inputs_embeds": torch.randn(1, length, 4), **inputs}, torch.zeros(length), [])


def test_samples_of_the_same_pixels_and_prompt_are_grouped():
    pixels, others = torch.ones(2), torch.ones(2)
    labels = torch.tensor([-100, -100, 7])

    def sample(pixels, *ids, labels=labels):
        ids = torch.tensor(ids)
        return {"pixel_values": pixels, "input_ids": ids, "labels": labels, "mask_ids": torch.full_like(ids, -1)}

    samples = [sample(pixels, 1, 2, 3), sample(others, 1, 2, 3), sample(pixels, 1, 2, 4), sample(pixels, 1, 5, 3)]
    samples += [sample(pixels, 1, 2, 3, labels=torch.tensor([1, 2, 3]))] * 2  # which part is the prompt is not said
    assert list(same_picture(samples, 100)) == [[0, 2], [1], [3], [4], [5]]
    assert list(same_picture(samples[:3], 1)) == [[0], [2], [1]]


def test_a_phrase_of_the_prompt_is_read_in_a_sequence_of_its_own():
    pixels, labels = torch.ones(2), torch.tensor([-100, -100, 7])
    sample = {"pixel_values": pixels, "input_ids": torch.arange(3), "labels": labels}
    asked = sample | {"mask_ids": torch.tensor([-1, 0, -1])}
    said = sample | {"mask_ids": torch.tensor([-1, -1, 0])}
    assert list(same_picture([asked, said, asked, said], 100)) == [[0], [1, 3], [2]]


def test_samples_of_similar_length_share_a_pass():
    batch = [tokens(n) for n in (10, 3, 9, 4)]
    assert list(passes(dict(enumerate(batch)), max_tokens=20)) == [[1, 3], [2, 0]]
    assert list(passes(dict(enumerate(batch)), max_tokens=1)) == [[1], [3], [2], [0]]
    assert list(passes(dict(enumerate(batch)), max_tokens=40)) == [[1, 3, 2, 0]]


def test_inputs_that_cannot_be_padded_get_a_pass_of_their_own():
    batch = [tokens(3), tokens(4, attention_mask=torch.ones(1, 1, 4, 4)), tokens(5)]
    assert list(passes(dict(enumerate(batch)), max_tokens=100)) == [[1], [0, 2]]


def test_padding_counts_positions_on():
    short, long = (tokens(n, position_ids=torch.arange(3 * n).view(3, 1, n)).inputs for n in (2, 4))
    batch = padded([short, long])
    assert batch["inputs_embeds"].shape == (2, 4, 4)
    assert not batch["inputs_embeds"][0, 2:].any()
    assert batch["position_ids"][:, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert torch.equal(batch["position_ids"][:, 1:], long["position_ids"])
