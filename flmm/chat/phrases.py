"""Phrases of an English sentence worth grounding, found without a parser."""

import re

from flmm.datasets.phrases import Span

BEGIN = r"(?:an?|the|this|that|these|those|his|her|its|their|two|three|four|five|six|several|some|many)"
END = (
    r"in|on|at|of|over|under|above|below|behind|beside|near|next|between|with|without|to|from|by|into|onto|and|or|"
    r"but|while|that|which|who|is|are|was|were|has|have|there|left|right|inside|outside|against|along|across"
)
PHRASE = re.compile(rf"\b{BEGIN}(?:\s+(?!(?:{END}|{BEGIN})\b)[\w'-]+){{1,5}}", re.IGNORECASE)


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
    return [found.span() for found in PHRASE.finditer(text)] or [whole]
