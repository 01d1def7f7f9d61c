"""Words of a text, and which of its tokens are parts of them."""

import re
from collections.abc import Sequence
from typing import Any

from flmm.constants import NO_PHRASE
from flmm.datasets.phrases import Span

# Scripts that do not part words: each sign stands alone. Then words with inner hyphens, then single other signs.
_UNPARTED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{_UNPARTED}]|[^\W{_UNPARTED}]+(?:[-'\u2019][^\W{_UNPARTED}]+)*|[^\w\s]")


def words_of_tokens(text: str, spans: Sequence[Span]) -> list[int]:
    """Say which word each token of a text belongs to.

    Args:
        text: The text.
        spans: T pairs (start, end): the characters that each token stands for.

    Returns:
        T indices that count up; a token without a new character goes on with the word before.
    """
    starts = {match.start() for match in WORD.finditer(text)}
    words: list[int] = []
    word, reached = -1, 0
    for start, end in spans:
        begun = any(position in starts for position in range(max(start, reached), end))
        word += begun or word < 0
        words.append(word)
        reached = max(reached, end)
    return words


def unknown_words(tokenizer: Any, text: str) -> list[str]:
    """List the words of a text that a tokenizer reads as its unknown token, each once.

    Args:
        tokenizer: A Hugging Face tokenizer. One without an unknown token costs nothing here.
        text: The text.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown not in tokenizer.encode(text, add_special_tokens=False):
        return []
    words = [word for word in WORD.findall(text) if word[0].isalnum()]
    return [w for w in dict.fromkeys(words) if unknown in tokenizer.encode(w, add_special_tokens=False)]


def phrase_spans(text: str, spans: Sequence[Span], phrases: Sequence[int]) -> list[Span]:
    """Find where phrases stand in a text, without white space around them.

    Args:
        text: The text.
        spans: T pairs (start, end): the characters that each token stands for.
        phrases: T indices of the phrase of each token, -1 for none.

    Returns:
        A pair (start, end) for each phrase, in the order of their first tokens.
    """
    found: dict[int, Span] = {}
    for (start, end), phrase in zip(spans, phrases, strict=True):
        if phrase != NO_PHRASE:
            first, last = found.get(phrase, (start, end))
            found[phrase] = min(first, start), max(last, end)
    return [
        (end - len(text[start:end].lstrip()), start + len(text[start:end].rstrip())) for start, end in found.values()
    ]
