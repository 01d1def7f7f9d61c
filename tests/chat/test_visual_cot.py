"""Visual chain of thought: what is said to the LMM, what it looks at, and what is kept."""

import pytest
import torch
from families import build, picture

import flmm
from flmm.api import GroundingModel
from flmm.chat.visual_cot import ABLATIONS, CotPrompts, VisualCoT, elsewhere
from flmm.models.reader import Reader

QUESTION = "How many dogs are there?"
BRIEF = "\nAnswer the question using a single word or phrase."
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)


@pytest.fixture(scope="module")
def tiny():
    return flmm.load(device="cpu")


@pytest.fixture
def said(monkeypatch):
    """The prompts that the LMM goes on from."""
    prompts = []
    generate = Reader.generate

    def record(self, sample, *args, **kwargs):
        prompts.append(sample)
        return generate(self, sample, *args, **kwargs)

    monkeypatch.setattr(Reader, "generate", record)
    return prompts


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory):
    """A tiny DeepSeek-VL with the prompts of its config."""
    root = tmp_path_factory.mktemp("deepseek")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        built = build("deepseek_1b", root)
        yield GroundingModel(built.model, built.builder), CotPrompts.from_config(built.config)


def test_deepseek_is_asked_in_the_words_of_the_reference(deepseek, said):
    """Its ids are those of the whole text, tokenized at once."""
    model, prompts = deepseek
    encode, image = model.builder.tokenizer.encode, model.builder.format.picture
    chain = VisualCoT(model, prompts)(picture(), QUESTION, "v1")
    VisualCoT(model, prompts)(picture(), QUESTION, "v3")
    begun, looked, plain = (sample["input_ids"].tolist() for sample in said)
    think = "First think which object in this image is most relevant to the question."
    thought = " The object most relevant to the question is"
    assert begun == encode(f"User: {image}{QUESTION}{think}\n\nAssistant:{thought}")
    region = "the image region that might help you answer the question: "
    look = f"{image}the whole image, {image}{region}{QUESTION}{BRIEF}"
    assert looked == encode(f"{SYSTEM}\n\nUser: {look}\n\nAssistant:")
    assert plain == encode(f"{SYSTEM}\n\nUser: {image}{QUESTION}{BRIEF}\n\nAssistant:")
    whole, crop = (shown["image"].size for shown in said[1]["pictures"])
    x0, y0, x1, y1 = chain.box
    assert (whole, crop) == (picture().size, (x1 - x0, y1 - y0))


def test_the_thought_is_what_the_lmm_says_and_where_it_looks(deepseek):
    model, prompts = deepseek
    ids = model.builder.tokenizer.encode(
        f"User: {model.builder.format.picture}{prompts.think.format(question=QUESTION)}\n\nAssistant:{prompts.thought}"
    )
    sample = model.builder.build(picture(), [], [])
    prompt = {**sample, "input_ids": torch.tensor(ids), "mask_ids": torch.full((len(ids),), -1)}
    tokens = model.model.backbone.prompt(prompt)
    expected = model.model.backbone.generate(**tokens.inputs, max_new_tokens=16, do_sample=False)[0, :15].tolist()
    text = model.builder.tokenizer.decode(expected, skip_special_tokens=True)
    chain = VisualCoT(model, prompts)(picture(), QUESTION, "v1")
    assert "." not in text  # else it would have been ended there
    assert chain.thought == text.strip() != ""
    read = {
        **sample,
        "input_ids": torch.tensor([*ids, *expected]),
        "mask_ids": torch.tensor([-1] * len(ids) + [0] * len(expected)),
        "labels": torch.tensor([-100] * len(ids) + expected),
    }
    mask = model.ground_reading(model.model.read([read])[0], read, picture(), text, [(0, len(text))]).masks[0]
    assert 0.01 < mask.mean() < 0.99
    assert (chain.mask == mask).mean() > 0.999


def test_v2_looks_with_all_words_of_the_question(deepseek):
    """Rows of the question do not depend on what follows it."""
    model, prompts = deepseek
    encode = model.builder.tokenizer.encode
    before, asked, whole = (
        encode(f"User: {model.builder.format.picture}{text}") for text in ("", QUESTION, f"{QUESTION}\n\nAssistant:")
    )
    assert whole[: len(asked)] == asked
    sample = model.builder.build(picture(), [], [])
    positions = torch.arange(len(whole))
    words = (positions >= len(before)) & (positions < len(asked))
    sample |= {"input_ids": torch.tensor(whole), "mask_ids": words.long() - 1, "labels": torch.tensor(whole)}
    (reading,) = model.model.read([sample])
    expected = model.ground_reading(reading, sample, picture(), QUESTION, [(0, len(QUESTION))])
    chain = VisualCoT(model, prompts)(picture(), QUESTION, "v2")
    assert chain.thought == ""
    assert 0.01 < chain.mask.mean() < 0.99
    assert (chain.mask == expected.masks[0]).mean() > 0.999
    coarse = VisualCoT(model, prompts, coarse=True)(picture(), QUESTION, "v2")
    assert (coarse.mask == expected.coarse_masks[0]).mean() > 0.999


def test_an_lmm_that_reads_one_picture_gets_the_crop_alone(tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    built = build("hpt_clip", tmp_path)
    model = GroundingModel(built.model, built.builder)
    chain = VisualCoT(model)(picture(), QUESTION, "center")
    (asked,) = said
    assert "pictures" not in asked
    x0, y0, x1, y1 = chain.box
    assert asked["image"].size == (x1 - x0, y1 - y0)


def test_a_thought_ends_at_a_full_stop(tiny):
    """Captions of the embedded model end with one; its random questions may not, so it is asked for a caption."""
    prompts = CotPrompts(think="Please give me a description of the image.", thought="")
    chain = VisualCoT(tiny, prompts)(picture((168, 168)), QUESTION, "v1")
    assert chain.thought
    assert "." not in chain.thought


def test_a_thought_that_is_empty_looks_at_the_whole_picture(tiny):
    caption = tiny.answer(picture((168, 168))).text
    assert caption.endswith(".")
    prompts = CotPrompts(think="Please give me a description of the image.", thought=f" {caption}")
    chain = VisualCoT(tiny, prompts)(picture((168, 160)), QUESTION, "v1")
    assert (chain.thought, chain.mask, chain.box) == ("", None, (0, 0, 168, 160))
    assert chain.answer


@pytest.mark.parametrize(
    ("version", "true_box", "box"),
    [
        ("v3", (10, 20, 60, 90), (0, 0, 168, 120)),
        ("text_only", (10, 20, 60, 90), (0, 0, 168, 120)),
        ("center", (10, 20, 60, 90), (42, 30, 126, 90)),
        ("true_box", (10, 20, 60, 90), (10, 20, 59, 89)),
        ("true_box", (0, 0, 1, 1), (0, 0, 8, 8)),
        ("true_box", None, (0, 0, 168, 120)),
        ("random", None, (0, 0, 168, 120)),
    ],
)
def test_boxes(tiny, version, true_box, box):
    cot = VisualCoT(tiny)
    assert cot._box(version, (168, 120), None, true_box, seed=1) == box


def test_scaled_boxes(tiny):
    cot = VisualCoT(tiny, box_scale=2.0)
    assert cot._box("true_box", (168, 120), None, (60, 50, 81, 71), seed=1) == (50, 40, 90, 80)


def test_a_random_box_has_the_size_of_the_true_one():
    boxes = {elsewhere((5, 6, 25, 16), (100, 50), seed) for seed in range(30)}
    assert len(boxes) > 20
    assert all(x1 - x0 == 20 and y1 - y0 == 10 and x1 <= 100 and y1 <= 50 for x0, y0, x1, y1 in boxes)
    assert elsewhere((0, 0, 500, 10), (100, 50), 3)[::2] == (0, 100)


def test_a_gray_picture_hides_the_true_one(tiny, said):
    VisualCoT(tiny)(picture((168, 168)), QUESTION, "text_only")
    assert said[0]["image"].getcolors() == [(168 * 168, (128, 128, 128))]


def test_unknown_versions_and_empty_questions(tiny):
    with pytest.raises(ValueError, match="version 'v4' is unknown: there are v1, v2, v3, true_box"):
        VisualCoT(tiny)(picture(), QUESTION, "v4")
    with pytest.raises(ValueError, match="the question is empty"):
        VisualCoT(tiny)(picture(), "", "v2")
    assert "true_box" in ABLATIONS
