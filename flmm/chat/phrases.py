"""Phrases of a text worth grounding, found without a parser."""

import re

from flmm.datasets.phrases import Span
from flmm.datasets.words import WORD

BEGIN = r"(?:an?|the|this|that|these|those|his|her|its|their|two|three|four|five|six|several|some|many)"
END = (
    r"in|on|at|of|over|under|above|below|behind|beside|near|next|between|with|without|to|from|by|into|onto|and|or|"
    r"but|while|that|which|who|is|are|was|were|has|have|there|left|right|inside|outside|against|along|across"
)
PHRASE = re.compile(rf"\b{BEGIN}(?:\s+(?!(?:{END}|{BEGIN})\b)[\w'-]+){{1,5}}", re.IGNORECASE)
# Words that point at nothing of the picture, English and Chinese. What a pronoun means stands elsewhere, perhaps in the
# question, and the picture itself is no region of it. The pronouns are those that the reference leaves out.
PRONOUNS = frozenset(
    """it this that those these them he she you i they me her him a what which whose who""".split()  # noqa: SIM905
)
_MORE = """we us my your his its our their an the there here and or not of in on at to is are was were be been am do
does did has have had can will yes no yeah ok okay none nothing image picture photo photograph"""
NAMELESS = PRONOUNS | frozenset(_MORE.split())
NAMELESS_SIGNS = frozenset("它他她牠们們这這那哪我你您是的了有不没沒否图圖片像照")


def noun_phrases(text: str) -> list[Span]:
    """Return runs of words that begin with a determiner or number and end before a preposition, verb or full stop.

    Good enough for captions such as "a red circle above two small squares". A word may be one too many where a
    verb follows ("a man riding"); name the phrases yourself where that matters.

    Args:
        text: An English sentence.

    Returns:
        The characters (start, end) of the phrases in order; the whole text when there is none.
    """
    whole = (len(text) - len(text.lstrip()), len(text.rstrip()))
    return [found.span() for found in PHRASE.finditer(text) if names_something(found.group())] or [whole]


def names_something(phrase: str) -> bool:
    """Tell whether a phrase names more than "it", "yes" or "the image" do: nothing could be found for these."""
    words = [re.split("['\u2019]", word)[0] for word in WORD.findall(phrase.lower())]
    return any(word[0].isalnum() and word not in NAMELESS | NAMELESS_SIGNS for word in words)
