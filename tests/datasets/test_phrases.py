"""Finding phrases in a text and tokenising it piece by piece."""

import json
import unicodedata
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


def test_words_alone_are_one_phrase():
    assert find_phrases("a black cross", "cross") == [(8, 13)]
    assert find_phrases("a black cross", "black cross") == [(2, 13)]
    assert find_phrases("a black cross", (word for word in ["cross", "black"])) == [(8, 13), (2, 7)]


def test_all_phrases_are_placed_together_where_the_longest_would_take_a_neighbors_place():
    assert find_phrases("a b c b c", ["b c", "a b"]) == [(6, 9), (0, 3)]
    assert find_phrases("b c b c a b c", ["b c", "b c", "a b"]) == [(0, 3), (4, 7), (8, 11)]
    assert find_phrases("a b c b c", ["b c", (0, 3)]) == [(6, 9), (0, 3)]
    with pytest.raises(ValueError, match=r"'a b' occurs 1 time.* separate calls"):
        find_phrases("a b c", ["b c", "a b"])


NFC, NFD = "a jalape\u00f1o by the caf\u00e9", unicodedata.normalize("NFD", "a jalape\u00f1o by the caf\u00e9")
CURLY = "the dog\u2019s bowl"
HINDI = "\u0918\u0930\u094b\u0902 \u0915\u0947 \u092a\u093e\u0938 \u090f\u0915 \u0918\u0930"


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        (NFC, unicodedata.normalize("NFD", "the caf\u00e9"), "the caf\u00e9"),
        (NFD, "a jalape\u00f1o", "a jalapen\u0303o"),
        (CURLY, "the dog's bowl", CURLY),
        ("the dog's bowl", CURLY, "the dog's bowl"),
        ("a \u201cstop\u201d sign", 'a "stop" sign', "a \u201cstop\u201d sign"),
        ("a well\u2011known dog", "well-known", "well\u2011known"),
        ("a cr\u00ado\u200bss here", "cross", "cr\u00ado\u200bss"),
        ("a cross here", "cro\u200bss\ufeff", "cross"),
        ("DIE STRASSE", "stra\u00dfe", "STRASSE"),
        ("\uff21 dog", "a dog", "\uff21 dog"),  # full width
        ("a \u2764\ufe0f on it", "\u2764", "\u2764\ufe0f"),
    ],
)
def test_ways_of_writing_the_same_letter_do_not_matter(text, phrase, expected):
    assert words(text, [phrase]) == [expected]


@pytest.mark.parametrize(
    ("before", "letter", "after"),
    [
        ("a caf\u00e9 with a ", "cafe", " sign"),
        (HINDI[:-2], HINDI[-2:], ""),  # "house" beside "houses"
        ("\ud55c ", "\ud558", ""),  # a syllable that begins like another one
        ("\u304c", "\u304b", ""),  # ga, ka: one has a mark
        ("\U0001f44b\U0001f3fd ", "\U0001f44b", ""),  # a hand with a skin tone, a hand without
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_phrase_never_takes_a_part_of_a_letter(before, letter, after, form):
    before, letter, after = (unicodedata.normalize(form, part) for part in (before, letter, after))
    assert find_phrases(before + letter + after, [letter]) == [(len(before), len(before + letter))]


@pytest.mark.parametrize("phrases", [[3], (0, 7), [("a", "b")], [(1, 2, 3)], [None], ["a dog", 1.5]])
def test_what_is_no_phrase_is_told(phrases):
    with pytest.raises(ValueError, match=r"is no phrase: write words, or \(start, end\)"):
        find_phrases("a red dog", phrases)


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
        ("a dog", [(1, 2)], "nothing visible"),
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
            return [] if text == "\u2800" else [1]

    with pytest.raises(ValueError, match="gives no token"):
        encode_phrases(Mute(), "see \u2800 here", ["\u2800"])
    with pytest.raises(ValueError, match="phrase 1 .* gives no token"):
        encode_expressions(Mute(), ["a dog", "\u2800"])


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


@pytest.mark.parametrize(
    ("text", "phrases"), [("a cat", 3), (b"a cat", ["a cat"]), ("\u200b", ["\u200b"]), ("a\u200b", [(1, 2)])]
)
def test_other_types_and_invisible_words_are_refused(text, phrases):
    with pytest.raises(ValueError, match=r"phrases=3|give a text|is empty|nothing visible"):
        find_phrases(text, phrases)
