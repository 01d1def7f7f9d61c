"""Finding phrases in a text and tokenising it piece by piece."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from flmm.datasets.phrases import encode_expressions, encode_phrases, find_phrases, split_text

GOLDEN = Path(__file__).parents[1] / "golden" / "comp_datasets"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(GOLDEN / "tokenizer_with_image")


def words(text, phrases):
    return [text[slice(*span)] for span in find_phrases(text, phrases)]


def test_case_and_white_space_do_not_matter():
    text = "A Red\n  circle left of a cat"
    assert words(text, ["a  red circle", "CAT"]) == ["A Red\n  circle", "cat"]


def test_repeated_phrases_take_successive_occurrences():
    text = "a dog and a dog and a dog"
    assert find_phrases(text, ["a dog", "a dog", "a dog"]) == [(0, 5), (10, 15), (20, 25)]


def test_whole_words_come_first_and_parts_of_words_only_without_them():
    assert find_phrases("concatenate the cat", ["cat"]) == [(16, 19)]
    assert find_phrases("一只黑猫坐着", ["黑猫"]) == [(2, 4)]


def test_longer_phrases_choose_first_but_keep_their_number():
    text = "the dog and a dog"
    assert words(text, ["dog", "the dog"]) == ["dog", "the dog"]
    assert find_phrases(text, ["dog", "the dog"]) == [(14, 17), (0, 7)]


def test_spans_are_taken_as_they_are():
    text = "a dog and a dog"
    assert find_phrases(text, [(10, 15), "a dog"]) == [(10, 15), (0, 5)]


@pytest.mark.parametrize(
    ("text", "phrases", "message"),
    [
        ("", ["a"], "text is empty"),
        ("  \n", ["a"], "text is empty"),
        ("a dog", [], "no phrase is given"),
        ("a dog", ["a cat"], "'a cat' is not in the text 'a dog'"),
        ("a dog", ["a dog", "a dog"], "occurs 1 time"),
        ("a dog", [" "], "a phrase is empty"),
        ("a dog", [(2, 9)], r"span \(2, 9\) is not inside the text of 5 characters"),
        ("a dog", [(3, 3)], r"span \(3, 3\)"),
        ("a dog", [(1, 2)], "only white space"),
        ("a red dog", [(0, 5), (2, 9)], "overlap"),
        ("a red dog", ["a red dog", "dog"], "separate calls"),
    ],
)
def test_bad_phrases_are_refused(text, phrases, message):
    with pytest.raises(ValueError, match=message):
        find_phrases(text, phrases)


def test_a_phrase_without_token_is_refused():
    class Mute:
        def encode(self, text, add_special_tokens):
            return [] if text == "\u200b" else [1]

    with pytest.raises(ValueError, match="gives no token"):
        encode_phrases(Mute(), "see \u200b here", ["\u200b"])
    with pytest.raises(ValueError, match="phrase 1 .* gives no token"):
        encode_expressions(Mute(), ["a dog", "\u200b"])


def test_pieces_are_cut_at_the_phrases():
    text = "A dog, and a cat."
    assert split_text(text, [(11, 16), (0, 5)]) == [("A dog", 1), (", and", -1), ("a cat", 0), (".", -1)]


def test_a_caption_typed_by_a_user_gives_the_training_tokens(tokenizer):
    for item in json.loads((GOLDEN / "data" / "png.json").read_text()):
        text = " ".join(segment["utterance"] for segment in item["segments"])
        phrases = [s["utterance"] for s in item["segments"] if s["segment_ids"]]
        input_ids, mask_ids = encode_phrases(tokenizer, text, phrases, prompt_ids=[7, 8])
        pieces = merged([(s["utterance"], bool(s["segment_ids"])) for s in item["segments"]])
        expected = [i for utterance, _ in pieces for i in tokenizer.encode(utterance, add_special_tokens=False)]
        assert input_ids == [7, 8, *expected]
        assert mask_ids[:2] == [-1, -1]
        for number, phrase in enumerate(phrases):
            ids = [i for i, m in zip(input_ids, mask_ids, strict=True) if m == number]
            assert ids == tokenizer.encode(phrase, add_special_tokens=False)


def merged(segments):
    """Neighbouring pieces without phrase are one piece in a typed text."""
    pieces = []
    for utterance, is_phrase in segments:
        if pieces and not is_phrase and not pieces[-1][1]:
            pieces[-1] = (f"{pieces[-1][0]} {utterance}", False)
        else:
            pieces.append((utterance, is_phrase))
    return pieces
