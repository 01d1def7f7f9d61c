"""Text as a reader sees it: letters that look alike compare equal, and no match ends inside a letter."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import regex

# Keyboards and word processors write the same mark in several ways.
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4\u0060\uff07", "'"),
        **dict.fromkeys("\u201c\u201d\u201f\u2033\u00ab\u00bb\uff02", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d", "-"),
    }
)
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Variation_Selector}]")
_VISIBLE = regex.compile(r"[^\s\p{Cc}\p{Cf}\p{Variation_Selector}]")


@dataclass(frozen=True)
class Folded:
    """A text made comparable.

    Attributes:
        text: K characters, decomposed, without letter case and invisible characters.
        starts: [K] where the letter that a character belongs to begins in the original text.
        ends: [K] where it ends there.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


def is_blank(text: str) -> bool:
    """Tell whether a reader sees nothing of a text."""
    return _VISIBLE.search(text) is None


def fold(text: str) -> Folded:
    """Fold a text letter by letter; a letter is what a reader sees as one, with all its marks."""
    characters, starts, ends = [], [], []
    for letter in regex.finditer(r"\X", text):
        folded = _fold(letter.group())
        characters.append(folded)
        starts += [letter.start()] * len(folded)
        ends += [letter.end()] * len(folded)
    return Folded("".join(characters), starts, ends)


def occurrences(text: Folded, phrase: str) -> list[tuple[int, int]]:
    """Where a phrase stands in a text, as (start, end) of the original text.

    Whole words, else parts of words: scripts such as Chinese do not part words. The kind of white space does not
    matter.
    """
    pattern = r"\s+".join(regex.escape(word) for word in fold(phrase).text.split())
    if not pattern:
        return []
    # looking ahead finds occurrences that overlap as well
    return _matches(text, rf"(?<![\w\p{{M}}])(?=({pattern})(?![\w\p{{M}}]))") or _matches(text, rf"(?=({pattern}))")


def _fold(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter.translate(_ALIKE)).casefold()
    return _INVISIBLE.sub("", unicodedata.normalize("NFKD", plain))


def _matches(text: Folded, pattern: str) -> list[tuple[int, int]]:
    found = []
    for match in regex.finditer(pattern, text.text):
        start, end = match.span(1)
        begins = start == 0 or text.starts[start - 1] != text.starts[start]
        closes = end == len(text.text) or text.starts[end] != text.starts[end - 1]
        if begins and closes:
            found.append((text.starts[start], text.ends[end - 1]))
    return found
