import pytest

from flmm.chat.phrases import noun_phrases


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        (
            "a large black cross and a large orange cross in the sky above two small blue squares on the sand .",
            ["a large black cross", "a large orange cross", "the sky", "two small blue squares", "the sand"],
        ),
        ("The man's dog is next to a well-known tree.", ["The man's dog", "a well-known tree"]),
        ("nothing here", ["nothing here"]),
    ],
)
def test_noun_phrases(text, phrases):
    assert [text[start:end] for start, end in noun_phrases(text)] == phrases
