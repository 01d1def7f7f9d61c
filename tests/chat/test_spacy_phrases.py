import pytest

from flmm.chat.spacy_phrases import installed, spacy_phrases


@pytest.mark.skipif(installed() is None, reason="needs the extra `spacy`")
@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        (
            "In the image, a man holds a red umbrella. He stands beside the old dog, and it sleeps on a rug.",
            ["a man", "a red umbrella", "the old dog", "a rug"],
        ),
        ("A dog chases a dog near a dog house.", ["A dog", "a dog house"]),
        ("Run.", ["Run."]),
    ],
)
def test_chunks_that_name_something(text, phrases):
    assert [text[start:end] for start, end in spacy_phrases(text)] == phrases


@pytest.mark.skipif(installed() is not None, reason="spaCy is there")
def test_without_spacy():
    with pytest.raises(ValueError, match=r"uv pip install -e .\[spacy\]"):
        spacy_phrases("A dog.")
