"""A reply of the LMM, with phrases that can be grounded where they were said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from flmm.api import Grounding
from flmm.chat.phrases import names_something, noun_phrases
from flmm.chat.prompt import Prompt
from flmm.constants import NO_PHRASE
from flmm.datasets.phrases import Span, find_phrases
from flmm.datasets.words import phrase_spans, words_of_tokens
from flmm.evaluation.records import encode_mask
from flmm.models.backbone import Reading
from flmm.models.reader import Answer

if TYPE_CHECKING:
    from flmm.chat.explain import Heatmap, Occlusion, RegionTokens

MOST_PHRASES = 64  # of a 7B LMM they take 2 GB at once


class Phrase(NamedTuple):
    """A phrase of a reply.

    Attributes:
        text: Its words.
        start: Its first character.
        end: One past its last character.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Grounded:
    """A phrase that was grounded, small enough to be kept.

    Attributes:
        phrase: The phrase.
        picture: Index of the picture.
        box: x0, y0, x1, y1 in pixels.
        score: As of `Grounding.scores`.
        mask: Run lengths of the mask, as COCO writes them.
        presence: As of `Grounding.presence`.
    """

    phrase: Phrase
    picture: int
    box: list[float]
    score: float
    mask: dict[str, Any]
    presence: float = 1.0


@dataclass
class Reply:
    """What the LMM replied.

    Attributes:
        prompt: What it had read.
        token_ids: [T] ids of what it said, without the token that ended it.
        answer: What each token attended to; None once it was given up for the sake of memory. It is then read again
            where it is needed.
        cut: Whether the limit of tokens, or `stop()`, ended the reply, and not the LMM.
        text: The text.
        spans: T pairs (start, end): the characters of `text` that each token stands for.
        grounded: What `ground` found so far.
    """

    prompt: Prompt
    token_ids: list[int]
    answer: Answer | None = field(default=None, repr=False)
    cut: bool = False
    text: str = field(init=False)
    spans: list[Span] = field(init=False, repr=False)
    grounded: list[Grounded] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.text, self.spans = decode(self.prompt.model.builder.tokenizer, self.token_ids)

    def __str__(self) -> str:
        return self.text

    @property
    def question(self) -> str:
        """What was asked."""
        return self.prompt.turns[-1].question

    @property
    def tokens(self) -> list[str]:
        """Return the T tokens as text."""
        return [self.text[start:end] for start, end in self.spans]

    def phrases(self) -> list[Phrase]:
        """Return the phrases worth grounding, by the head's keyword selector if it has one, else by rules for English.

        The whole reply when there is none ("red"). What names nothing is left out, such as pronouns, "yes" or "the
        image": `it` of "it is the sky" stands for words of the question.
        """
        named = [phrase for phrase in map(self.phrase, self._found()) if names_something(phrase.text)]
        if named or not names_something(self.text):
            return named
        return [self.phrase((0, len(self.text)))]

    def _found(self) -> list[Span]:
        """Characters of phrases, whether they name something or not."""
        selector = self.prompt.model.model.keywords
        if selector is None or not self.text:
            return noun_phrases(self.text)
        phrases = selector.phrases(self.attended().hidden, words_of_tokens(self.text, self.spans))
        return phrase_spans(self.text, self.spans, phrases)

    def phrase(self, span: Span) -> Phrase:
        """Return the phrase at some characters (start, end)."""
        return Phrase(self.text[slice(*span)], *span)

    def find(self, phrases: Sequence[str | Span | Phrase] | None = None) -> list[Phrase]:
        """Look phrases up in the reply.

        Args:
            phrases: Words of the reply, (start, end) character positions, or items of `phrases()`; all of `phrases()`
                when not given. Words that were said twice are found at their first mention.

        Raises:
            ValueError: For an empty reply, a phrase that is not in it, phrases that overlap, too many of them.
        """
        if not self.text:
            raise ValueError(f"the LMM said nothing to {self.question!r}, so there is nothing to ground: ask otherwise")
        if phrases is None and not (phrases := self.phrases()):
            raise ValueError(f"the reply {self.text!r} names nothing by itself: say which of its words to ground")
        if isinstance(phrases, str | Phrase):
            raise ValueError(f"phrases is {phrases!r}: give a list of phrases, [{phrases!r}]")
        if len(phrases) > MOST_PHRASES:
            raise ValueError(
                f"{len(phrases)} phrases, but at most {MOST_PHRASES} can be grounded at a time: use several calls"
            )
        asked = [(phrase.start, phrase.end) if isinstance(phrase, Phrase) else phrase for phrase in phrases]
        return [self.phrase(span) for span in find_phrases(self.text, asked)]

    def ground(self, phrases: Sequence[str | Span | Phrase] | None = None, picture: int = 0) -> Grounding:
        """Find phrases of the reply in a picture, by what their words attended to when they were said.

        Args:
            phrases: See `find`.
            picture: Index of the picture, in the order in which they were shown.

        Raises:
            ValueError: See `find`; when there is no such picture.

        Example:
            >>> reply = model.chat("photo.jpg").ask("Which shape is red?")
            >>> reply.ground([(0, len(reply.text))]).masks.shape
            (1, 64, 96)
        """
        shown = self.shown(picture)
        found = self.find(phrases)
        spans = [(phrase.start, phrase.end) for phrase in found]
        mask_ids = phrase_of_tokens(self.spans, spans)
        reading = self.reading(mask_ids).of_picture(picture, len(self.prompt.pictures))
        sample = self.prompt.sample()
        sample = sample.get("pictures", [sample])[picture]
        said = torch.tensor(self.token_ids)[mask_ids >= 0]
        grounding = self.prompt.model.ground_reading(reading, sample, shown.image, self.text, spans, said)
        for index, phrase in enumerate(found):
            box, mask = grounding.boxes[index].tolist(), encode_mask(torch.from_numpy(grounding.masks[index]))
            score, presence = float(grounding.scores[index]), float(grounding.presence[index])
            self.grounded.append(Grounded(phrase, picture, box, score, mask, presence))
        return grounding

    def shown(self, picture: int) -> Any:
        """Return the picture of an index; ValueError when there is none."""
        if not 0 <= picture < len(self.prompt.pictures):
            raise ValueError(f"picture {picture} of {len(self.prompt.pictures)}: they are counted from 0")
        return self.prompt.pictures[picture]

    def reading(self, mask_ids: Tensor) -> Reading:
        """What the pipeline needs of phrases: [T] index of the phrase of each token, -1 for none."""
        if self.answer is not None:
            return self.answer.reading(mask_ids.to(self.answer.hidden.device))
        (reading,) = self.prompt.model.model.read([self.prompt.sample(self.token_ids, mask_ids.tolist())])
        return reading

    def attended(self) -> Answer:
        """What each token attended to: kept since it was said, or read again."""
        if self.answer is not None:
            return self.answer
        every = range(len(self.token_ids))
        (reading,) = self.prompt.model.model.read([self.prompt.sample(self.token_ids, every)])
        return Answer(
            torch.tensor(self.token_ids), reading.attention, reading.hidden, self.prompt.model.model.read.merge
        )

    def token_to_region(self, phrase: Any = None, **options: Any) -> Heatmap:
        """Show where words of the reply looked; see `flmm.chat.explain.token_to_region`."""
        from flmm.chat.explain import token_to_region

        return token_to_region(self, phrase, **options)

    def region_to_token(self, box: Any = None, mask: Any = None, **options: Any) -> RegionTokens:
        """Rank the words by how much they looked at a region; see `flmm.chat.explain.region_to_token`."""
        from flmm.chat.explain import region_to_token

        return region_to_token(self, box, mask, **options)

    def occlude(self, box: Any = None, mask: Any = None, **options: Any) -> Occlusion:
        """Hide a region and ask how probable the reply still is; see `flmm.chat.explain.occlude`."""
        from flmm.chat.explain import occlude

        return occlude(self, box, mask, **options)


def decode(tokenizer: Any, token_ids: Sequence[int]) -> tuple[str, list[Span]]:
    """Return the text of T tokens, without special ones, and the characters (start, end) that each stands for."""
    ids = list(token_ids)
    texts = [tokenizer.decode(ids[:count], skip_special_tokens=True) for count in range(len(ids) + 1)]
    margin = len(texts[-1]) - len(texts[-1].lstrip())
    text = texts[-1].strip()
    ends = [min(max(0, len(part) - margin), len(text)) for part in texts]
    # A letter of several tokens: each byte so far may be shown as a character of its own, until the letter is whole.
    ends = list(accumulate(reversed(ends), min))[::-1]
    # its later tokens add no character, and stand for the last one
    spans = [(max(0, min(start, end - 1)), end) for start, end in zip(ends, ends[1:], strict=False)]
    return text, spans


def phrase_of_tokens(spans: Sequence[Span], phrases: Sequence[Span]) -> Tensor:
    """Return the index [T] of the phrase that each token shares characters with, -1 for none."""
    mask_ids = torch.full((len(spans),), NO_PHRASE)
    for phrase, (start, end) in enumerate(phrases):
        for token, (first, last) in enumerate(spans):
            if first < end and start < last:
                mask_ids[token] = phrase
    return mask_ids
