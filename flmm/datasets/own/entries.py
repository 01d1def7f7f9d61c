"""The lines of a JSON Lines file: a picture, a text, and the phrases of the text with what they show."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from flmm.datasets.phrases import Span, find_phrases

MAX_LINE = 64 << 20  # bytes; a line of a thousand large masks has a tenth of it
_JOINER = "\u200d"


class Phrase(msgspec.Struct, kw_only=True):
    """A phrase as it is written: `text` or `span`, and `mask`, `masks` or `box`."""

    text: str | None = None
    span: tuple[int, int] | None = None
    mask: Any = msgspec.UNSET
    masks: Any = msgspec.UNSET
    box: Any = msgspec.UNSET
    id: int | None = None
    plural: bool | None = None
    isthing: bool = True


class _Line(msgspec.Struct):
    image: str
    text: str
    phrases: list[Phrase] = []
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class Entry:
    """A line that has been checked.

    Attributes:
        image: Path of the picture as written.
        text: The text.
        spans: M pairs (start, end): the characters of each phrase.
        regions: M lists of what each phrase shows; an empty one for a phrase without a target.
        infos: M dicts with `plural` and `isthing`.
        size: (height, width) of the picture as annotated, where the line says it.
    """

    image: str
    text: str
    spans: list[Span]
    regions: list[list[Any]]
    infos: list[dict[str, bool]]
    size: tuple[int, int] | None

    @property
    def words(self) -> list[str]:
        """Return the M phrases, as they stand in the text."""
        return [self.text[start:end] for start, end in self.spans]


_DECODER = msgspec.json.Decoder(_Line)


def read_lines(path: str | Path) -> Iterator[tuple[int, int, bytes | None]]:
    """Read the lines of a file that are not blank, without ever holding more than one.

    Yields:
        Number of the line from 1, its position in bytes, and its content; None where it is longer than MAX_LINE.

    Raises:
        FileNotFoundError: No such file.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while True:
                number, position = number + 1, file.tell()
                line = file.readline(MAX_LINE + 1)
                if not line:
                    return
                if len(line) > MAX_LINE and not line.endswith(b"\n"):
                    _skip_line(file)
                    yield number, position, None
                elif line.strip(b"\xef\xbb\xbf \t\r\n"):
                    yield number, position, line
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no data file {path}: check the path; the format is in docs/own_data.md") from error


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
        pass


def parse(line: bytes | None) -> Entry:
    """Return a line as an entry.

    Raises:
        ValueError: The line is too long, no JSON, of another format, or a phrase cannot be placed in the text.
    """
    if line is None:
        raise ValueError(f"longer than {MAX_LINE >> 20} MB: write one picture a line, and large masks as PNG files")
    line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        content = _DECODER.decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}{_unread(line)}; the format is in docs/own_data.md") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"no complete JSON in UTF-8 ({error})") from error
    try:
        if not content.phrases:
            _check_spelling(line)
        return _entry(content)
    except _LacksKeyError as error:
        raise ValueError(f"{error}{_unread(line)}") from error


class _LacksKeyError(ValueError):
    """A key is missing, perhaps because it was written differently."""


def _unread(line: bytes) -> str:
    """Name the keys of a line that nothing reads; empty when there is none."""
    content = msgspec.json.decode(line)
    if not isinstance(content, dict):
        return ""
    phrases = content.get("phrases")
    parts = [phrase for phrase in phrases if isinstance(phrase, dict)] if isinstance(phrases, list) else []
    known = {*_Line.__struct_fields__, *Phrase.__struct_fields__}
    names = dict.fromkeys(f"`{key}`" for part in (content, *parts) for key in part if key not in known)
    return f" (nothing reads {', '.join(names)})" if names else ""


def _check_spelling(line: bytes) -> None:
    """Refuse a line whose `phrases` are under a key like it: they would be left out without a word."""
    near = difflib.get_close_matches("phrases", msgspec.json.decode(line), 1, 0.8)
    if near and near != ["phrases"]:
        raise _LacksKeyError("no `phrases`: write a list of them, empty where there is none")


def _entry(content: _Line) -> Entry:
    """Check a line."""
    if not content.image.strip() or "\0" in content.image:
        raise ValueError(f"image {content.image!r} is no path")
    regions = [_regions(number, phrase) for number, phrase in enumerate(content.phrases)]
    return Entry(
        image=content.image,
        text=content.text,
        spans=_spans(content.text, content.phrases),
        regions=regions,
        infos=[_info(phrase, len(found)) for phrase, found in zip(content.phrases, regions, strict=True)],
        size=_size(content),
    )


def _info(phrase: Phrase, regions: int) -> dict[str, bool]:
    return {"plural": regions > 1 if phrase.plural is None else phrase.plural, "isthing": phrase.isthing}


def _size(content: _Line) -> tuple[int, int] | None:
    given = (content.height, content.width)
    if given == (None, None):
        return None
    if None in given or min(side or 0 for side in given) < 1:
        raise ValueError(f"height {given[0]} and width {given[1]}: write both in pixels, or neither")
    return given[0] or 0, given[1] or 0


def _spans(text: str, phrases: list[Phrase]) -> list[Span]:
    """Where each phrase stands; each by its span, or by words that occur once."""
    if not text.strip():
        raise ValueError("the text is empty: write a sentence about the picture")
    if not phrases:
        return []
    return find_phrases(text, [_span(text, number, phrase) for number, phrase in enumerate(phrases)])


def _span(text: str, number: int, phrase: Phrase) -> Span:
    words = phrase.text
    if phrase.span is not None:
        start, end = _whole_letters(text, number, phrase.span)
        if words is not None and words.strip() != text[start:end].strip():
            raise ValueError(f"phrase {number}: span ({start}, {end}) is {text[start:end]!r}, its `text` is {words!r}")
        return start, end
    if words is None:
        raise _LacksKeyError(f"phrase {number} has neither `text` nor `span`: write one of them")
    if _occurs_twice(text, words):
        raise ValueError(f"phrase {number}: {words!r} occurs more than once in {text!r}: write its `span` instead")
    return find_phrases(text, [words])[0]


def _occurs_twice(text: str, words: str) -> bool:
    try:
        find_phrases(text, [words, words])
    except ValueError:
        return False
    return True


def _whole_letters(text: str, number: int, span: Span) -> Span:
    start, end = span
    if end > len(text) and end <= len(text.encode()):
        raise ValueError(
            f"phrase {number}: span ({start}, {end}) ends after the text of {len(text)} characters: count characters "
            f"(Unicode code points), not its {len(text.encode())} bytes"
        )
    for place in (start, end):
        if 0 < place < len(text) and _joined(text[place - 1], text[place]):
            raise ValueError(
                f"phrase {number}: span ({start}, {end}) cuts the letter {text[place - 1 : place + 1]!r} at {place} in "
                "two: move it before or after the letter"
            )
    return span


def _joined(before: str, after: str) -> bool:
    """Tell whether two characters are parts of one letter on the screen."""
    return bool(unicodedata.combining(after)) or after in (_JOINER, "\ufe0f") or before == _JOINER


def _regions(number: int, phrase: Phrase) -> list[Any]:
    """What a phrase shows, each a region or path; empty for a phrase without a target."""
    given = [name for name in ("mask", "masks", "box") if getattr(phrase, name) is not msgspec.UNSET]
    if len(given) != 1:
        has = " and ".join(given) or "none of them"
        raise _LacksKeyError(
            f"phrase {number} needs `mask`, `masks` or `box`, it has {has}: write null for what is not shown"
        )
    value = getattr(phrase, given[0])
    if given[0] == "box":
        return [] if value is None else [{"box": value}]
    values = value if given[0] == "masks" else [value]
    if values is None or values == [None] or values == [[]]:
        return []
    if not isinstance(values, list):
        raise ValueError(f"phrase {number}: `masks` must be a list of masks, it is {str(values)[:40]}")
    return [_region(value, phrase.id) for value in values]


def _region(value: Any, segment: int | None) -> Any:
    if isinstance(value, str):
        return {"png": value, "id": segment}
    if isinstance(value, list) and len(value) == 4 and all(isinstance(side, int | float) for side in value):
        return {"box": value}
    return value
