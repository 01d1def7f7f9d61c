"""From a text and its phrases to token ids that say which phrase each token belongs to.

A text is cut into pieces, (words, phrase index or -1), and each piece is tokenised on its own, without
special tokens. Training on captions whose pieces are given (Panoptic Narrative Grounding) and grounding a
sentence that a user typed both end in `encode_pieces`, so the language model reads the same tokens in both.
"""

import re
from collections.abc import Sequence

Span = tuple[int, int]
Piece = tuple[str, int]

NO_PHRASE = -1


def encode_phrases(
    tokenizer, text: str, phrases: Sequence[str | Span], prompt_ids: Sequence[int] = ()
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


def find_phrases(text: str, phrases: Sequence[str | Span]) -> list[Span]:
    """Where each phrase stands in the text, as (start, end) character positions.

    Letter case and the kind of white space do not matter. Whole words are preferred; inside words is accepted
    when there is no other place, because scripts such as Chinese do not part words. A phrase that is given
    several times takes successive occurrences. Longer phrases choose first, so that "dog" does not take a
    part of "the dog".

    Raises:
        ValueError: Empty text, no phrase, a phrase that is not (often enough) in the text, a span outside the
            text, spans that overlap: a token can belong to one phrase only.
    """
    if not text.strip():
        raise ValueError("the text is empty: give the sentence whose phrases are to be grounded")
    if not phrases:
        raise ValueError(f"no phrase is given: name at least one phrase of {text!r}")
    spans: dict[int, Span] = {}
    for index, phrase in enumerate(phrases):
        if not isinstance(phrase, str):
            spans[index] = _checked_span(text, phrase)
    words = [(index, phrase) for index, phrase in enumerate(phrases) if isinstance(phrase, str)]
    for index, phrase in sorted(words, key=lambda item: -len(item[1])):
        spans[index] = _first_free(text, phrase, list(spans.values()))
    _check_overlap(text, spans.values())
    return [spans[index] for index in range(len(phrases))]


def _checked_span(text: str, span: Span) -> Span:
    start, end = (int(position) for position in span)
    if not 0 <= start < end <= len(text):
        raise ValueError(f"span ({start}, {end}) is not inside the text of {len(text)} characters: {text!r}")
    if not text[start:end].strip():
        raise ValueError(f"span ({start}, {end}) covers only white space of {text!r}")
    return start, end


def _first_free(text: str, phrase: str, taken: Sequence[Span]) -> Span:
    if not phrase.strip():
        raise ValueError(f"a phrase is empty: name words of {text!r}")
    pattern = r"\s+".join(re.escape(word) for word in phrase.split())
    whole_words = rf"(?<!\w){pattern}(?!\w)"
    found = [m.span() for m in re.finditer(whole_words, text, re.IGNORECASE)] or [
        m.span() for m in re.finditer(pattern, text, re.IGNORECASE)
    ]
    for span in found:
        if not any(_overlap(span, other) for other in taken):
            return span
    if not found:
        raise ValueError(f"phrase {phrase!r} is not in the text {text!r}: phrases must be words of the text")
    raise ValueError(
        f"phrase {phrase!r} occurs {len(found)} time(s) in {text!r}, each taken by another phrase already: "
        "a word can belong to one phrase only, so ground overlapping phrases in separate calls"
    )


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _check_overlap(text: str, spans) -> None:
    ordered = sorted(spans)
    for one, other in zip(ordered, ordered[1:], strict=False):
        if _overlap(one, other):
            raise ValueError(
                f"phrases {text[slice(*one)]!r} {one} and {text[slice(*other)]!r} {other} overlap: a word "
                "can belong to one phrase only, so ground them in separate calls"
            )
