import pytest
from words import word_tokenizer

from flmm.datasets.words import phrase_spans, unknown_words, words_of_tokens


@pytest.mark.parametrize(
    ("text", "spans", "words"),
    [
        (
            "a well-known man's cup.",
            [(0, 1), (1, 6), (6, 12), (12, 16), (16, 18), (18, 22), (22, 23)],
            [0, 1, 1, 2, 2, 3, 4],
        ),
        ("红色的圆", [(0, 1), (1, 3), (3, 4), (3, 4)], [0, 1, 2, 2]),
        ("no end", [(0, 2), (2, 6), (6, 6)], [0, 1, 1]),
        ("a.b", [(0, 1), (1, 2), (2, 3)], [0, 1, 2]),
    ],
)
def test_words_of_tokens(text, spans, words):
    assert words_of_tokens(text, spans) == words


def test_phrase_spans():
    text = "a red ball , trees"
    spans = [(0, 1), (1, 5), (5, 10), (10, 12), (12, 18)]
    assert phrase_spans(text, spans, [-1, 0, 0, -1, 1]) == [(2, 10), (13, 18)]
    assert phrase_spans(text, spans, [2, -1, -1, -1, -1]) == [(0, 1)]
    assert phrase_spans(text, spans, [-1] * 5) == []


def test_words_that_a_tokenizer_does_not_know():
    tokenizer = word_tokenizer("a", "red", "circle", ".")
    tokenizer.unk_token = "<unk>"
    assert unknown_words(tokenizer, "a red zebra , a yak , a zebra .") == ["zebra", "yak"]
    assert unknown_words(tokenizer, "a red circle .") == []


def test_a_tokenizer_without_an_unknown_token_is_not_asked():
    class Bytes:
        unk_token_id = None

        def encode(self, *_, **__):
            raise AssertionError

    assert unknown_words(Bytes(), "a zebra") == []
