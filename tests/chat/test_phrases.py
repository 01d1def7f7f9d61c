import pytest

from flmm.chat.phrases import names_something, noun_phrases


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        (
            "a large black cross and a large orange cross in the sky above two small blue squares on the sand .",
            ["a large black cross", "a large orange cross", "the sky", "two small blue squares", "the sand"],
        ),
        ("The man's dog is next to a well-known tree.", ["The man's dog", "a well-known tree"]),
        ("nothing here", ["nothing here"]),
        ("In the image of a man his T-shirt is red.", ["a man", "his T-shirt"]),
    ],
)
def test_noun_phrases(text, phrases):
    assert [text[start:end] for start, end in noun_phrases(text)] == phrases


@pytest.mark.parametrize(
    "text", ["it", "It's", "those", "yes", "No.", "the image", "it is in", "", " . ", "它", "是的", "🙂"]
)
def test_what_names_nothing(text):
    assert not names_something(text)


@pytest.mark.parametrize(
    "text", ["red", "a T-shirt", "it is red", "two", "7", "left", "the man's", "猫", "红色的圆", "Äpfel"]
)
def test_what_names_something(text):
    assert names_something(text)
