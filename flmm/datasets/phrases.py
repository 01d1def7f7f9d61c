"""From a text and its phrases to token ids that say which phrase each token belongs to.

A text is cut into pieces, (words, phrase index or -1), and each piece is tokenised on its own, without
special tokens. Training on captions whose pieces are given (Panoptic Narrative Grounding) and grounding a
sentence that a user typed both end in `encode_pieces`, so the language model reads the same tokens in both.
"""

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flmm.constants import NO_PHRASE
from flmm.datasets.folding import Folded, fold, is_blank, occurrences
from flmm.datasets.places import Span, in_order, overlap, together
from flmm.datasets.prompts import sayable

Phrases = str | Sequence[str | Span]
Piece = tuple[str, int]


def encode_phrases(
    tokenizer, text: str, phrases: Phrases, prompt_ids: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Token ids of a text and the phrase each token belongs to.

    Args:
        tokenizer: A Hugging Face tokenizer.
        text: What the language model is taken to have said.
        phrases: M phrases of the text; words, or a (start, end) pair of character positions. See
            `find_phrases`.
        prompt_ids: Ids to put in front (prompt and image tokens); they belong to no phrase.

    Returns:
        input_ids [S] and mask_ids [S]: -1, or the index of the phrase in `phrases`.

    Raises:
        ValueError: Empty text, a phrase that is not in the text, overlapping phrases, a phrase without a
            token.
    """
    caption_ids, mask_ids = encode_pieces(tokenizer, split_text(text, find_phrases(text, phrases)))
    return [*prompt_ids, *caption_ids], [NO_PHRASE] * len(prompt_ids) + mask_ids


def encode_pieces(tokenizer, pieces: Sequence[Piece], source: str = "text") -> tuple[list[int], list[int]]:
    """Tokenise (words, phrase index or -1) pieces one by one; `source` names the text in errors.

    Returns:
        Token ids [S] and phrase indices [S].

    Raises:
        ValueError: A phrase without a token.
    """
    input_ids: list[int] = []
    mask_ids: list[int] = []
    for words, phrase in pieces:
        ids = tokenizer.encode(words, add_special_tokens=False)
        if not ids and phrase != NO_PHRASE:
            raise ValueError(
                f"{source}: phrase {phrase} ({words!r}) gives no token: it needs at least one visible character"
            )
        input_ids += ids
        mask_ids += [phrase] * len(ids)
    return input_ids, mask_ids


def encode_expressions(tokenizer, expressions: Sequence[str], source: str = "text") -> tuple[list[int], list[int]]:
    """Referring expressions as one caption: each is a phrase, followed by a full stop outside any phrase.

    Only the last token of the full stop is kept: sentence-piece tokenizers put a word mark in front of it.
    """
    stop = tokenizer.encode(".", add_special_tokens=False)[-1]
    input_ids: list[int] = []
    mask_ids: list[int] = []
    for phrase, expression in enumerate(expressions):
        ids, members = encode_pieces(tokenizer, [(expression, phrase)], source)
        input_ids += [*ids, stop]
        mask_ids += [*members, NO_PHRASE]
    return input_ids, mask_ids


def split_text(text: str, spans: Sequence[Span]) -> list[Piece]:
    """Cut a text at its phrases; the pieces are stripped of surrounding space and empty ones are left out.

    Args:
        text: The whole text.
        spans: M character spans that do not overlap, in any order; a piece carries its span's index.
    """
    pieces: list[Piece] = []
    position = 0
    for start, end, phrase in sorted((start, end, phrase) for phrase, (start, end) in enumerate(spans)):
        pieces += [(text[position:start].strip(), NO_PHRASE), (text[start:end].strip(), phrase)]
        position = end
    pieces.append((text[position:].strip(), NO_PHRASE))
    return [piece for piece in pieces if piece[0] or piece[1] != NO_PHRASE]


def as_phrases(phrases: Phrases) -> list[str | Span]:
    """Phrases as a list; words alone are one phrase.

    Raises:
        ValueError: No phrase, or something that is neither words nor a pair of positions.
    """
    if not isinstance(phrases, Iterable):
        raise ValueError(f"phrases={phrases!r}: give words of the text, or a list of them, e.g. phrases=['a dog']")
    listed = [phrases] if isinstance(phrases, str) else list(phrases)
    if not listed:
        raise ValueError("no phrase is given: name at least one phrase of the text")
    return [phrase if isinstance(phrase, str) else _span(phrase, listed) for phrase in listed]


def _span(phrase: Any, phrases: Sequence[Any]) -> Span:
    try:
        start, end = (operator.index(position) for position in phrase)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{phrase!r} of phrases={phrases!r} is no phrase: write words, or (start, end) character positions, "
            "e.g. phrases=['a dog', (10, 15)]"
        ) from error
    return start, end


def find_phrases(text: str, phrases: Phrases) -> list[Span]:
    """Find where each phrase stands in the text.

    Letter case, the kind of white space, invisible characters and the way of writing accents and apostrophes do not
    matter (`folding`). Whole words are preferred; inside words is accepted when there is no other place. A phrase that
    is given several times takes successive occurrences. Longer phrases choose first, so that "dog" does not take a
    part of "the dog"; where this leaves a phrase without a place, all are placed together.

    Args:
        text: The text.
        phrases: M phrases, each its words or its (start, end); words alone are one phrase.

    Returns:
        M pairs (start, end) of character positions in `text`.

    Raises:
        ValueError: Empty text, no phrase, a phrase that is not (often enough) in the text, a span outside the
            text, spans that overlap: a token can belong to one phrase only.
    """
    if is_blank(sayable(text, "the text")):
        raise ValueError(f"the text is empty ({text!r}): give the sentence whose phrases are to be grounded")
    listed = as_phrases(phrases)
    spans = {index: _checked_span(text, phrase) for index, phrase in enumerate(listed) if not isinstance(phrase, str)}
    _check_overlap(text, spans.values())
    folded = fold(text)
    places = {index: _places(text, folded, phrase) for index, phrase in enumerate(listed) if isinstance(phrase, str)}
    longest_first = sorted(places, key=lambda index: -len(listed[index]))
    found = in_order(places, longest_first, spans) or together(places, spans)
    if found is None:
        raise ValueError(_crowded(text, listed, places, longest_first, spans))
    return [found[index] for index in range(len(listed))]


def _checked_span(text: str, span: Span) -> Span:
    start, end = span
    if not 0 <= start < end <= len(text):
        raise ValueError(f"span ({start}, {end}) is not inside the text of {len(text)} characters: {text!r}")
    if is_blank(text[start:end]):
        raise ValueError(f"span ({start}, {end}) covers nothing visible of {text!r}")
    return start, end


def _places(text: str, folded: Folded, phrase: str) -> list[Span]:
    """Where a phrase could stand; at least one place."""
    if is_blank(phrase):
        raise ValueError(f"a phrase is empty: name words of {text!r}")
    if not (found := occurrences(folded, phrase)):
        raise ValueError(f"phrase {phrase!r} is not in the text {text!r}: phrases must be words of the text")
    return found


def _crowded(
    text: str,
    phrases: Sequence[str | Span],
    places: Mapping[int, Sequence[Span]],
    order: Sequence[int],
    fixed: Mapping[int, Span],
) -> str:
    """Say which phrase finds no place."""
    count = next(n for n in range(1, len(order) + 1) if in_order(places, order[:n], fixed) is None)
    index = order[count - 1]
    return (
        f"phrase {phrases[index]!r} occurs {len(places[index])} time(s) in {text!r}, each taken by another phrase "
        "already: a word can belong to one phrase only, so ground overlapping phrases in separate calls"
    )


def _check_overlap(text: str, spans: Iterable[Span]) -> None:
    ordered = sorted(spans)
    for one, other in itertools.pairwise(ordered):
        if overlap(one, other):
            raise ValueError(
                f"phrases {text[slice(*one)]!r} {one} and {text[slice(*other)]!r} {other} overlap: a word "
                "can belong to one phrase only, so ground them in separate calls"
            )
