"""What the keyword selector finds in captions, beside rules: records of samples, and metrics of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from flmm.chat.phrases import PHRASE
from flmm.chat.reply import decode, phrase_of_tokens
from flmm.chat.spacy_phrases import installed, spacy_phrases
from flmm.constants import IGNORE_INDEX
from flmm.datasets.phrases import Span
from flmm.datasets.words import phrase_spans, words_of_tokens
from flmm.evaluation.keywords import Counts, span_counts, token_counts
from flmm.evaluation.records import Record
from flmm.models.keywords import select_phrases

THRESHOLDS = tuple(step / 10 for step in range(1, 10))
RULES: dict[str, Callable[[str], list[Span]]] = {
    "English rule": lambda text: [match.span() for match in PHRASE.finditer(text)],
    "spaCy chunks": spacy_phrases,
}


def keyword_records(model: Any, tokenizer: Any, samples: Sequence[dict[str, Any]]) -> list[Record]:
    """Let the selector score the captions of samples, and rules read them.

    Args:
        model: A FrozenLMM with a selector.
        tokenizer: Of the samples.
        samples: Captions with phrases, as of PNGDataset.

    Returns:
        For each sample its `text`, the characters `spans` of its tokens, their `labels` (phrase or -1), `scores` and
        `begins` (0..1), and what `rules` find.
    """
    records = []
    for sample, reading in zip(samples, model.read(list(samples)), strict=True):
        read = sample["labels"] != IGNORE_INDEX
        labels = sample["mask_ids"][read].tolist()
        text, spans = caption_text(tokenizer, sample["input_ids"][read], labels)
        record = {"file_name": sample.get("file_name"), **scored(model.keywords, reading.text, text, spans)}
        records.append({**record, "labels": labels})
    return records


def scored(selector: Any, hidden: Tensor, text: str, spans: Sequence[Span]) -> Record:
    """Make the record of a text whose tokens have `hidden` states [L, T, D], without its truth."""
    with torch.no_grad():
        scores = selector(hidden).float().sigmoid()
    rules = [name for name in RULES if name != "spaCy chunks" or installed()]
    return {
        "text": text,
        "spans": list(spans),
        "scores": scores[:, 0].tolist(),
        "begins": scores[:, -1].tolist() if selector.begins else None,
        "rules": {name: RULES[name](text) for name in rules},
    }


def caption_text(tokenizer: Any, ids: Tensor, phrases: Sequence[int]) -> tuple[str, list[Span]]:
    """Write T tokens as text, and say which characters each stands for.

    A caption is tokenized piece by piece, and not every tokenizer writes the space between two pieces: it is put back
    where phrases begin and end.
    """
    text, spans, position = "", [], 0
    for _, run in groupby(phrases):
        length = len(list(run))
        piece, characters = decode(tokenizer, ids[position : position + length].tolist())
        offset = len(text) + bool(text)
        text += f" {piece}" if text else piece
        spans += [(offset + start, offset + end) for start, end in characters]
        position += length
    return text, spans


def selected(record: Record, threshold: float) -> list[int]:
    """Give the phrase of each token of a record by the selector."""
    words, begins = words_of_tokens(record["text"], record["spans"]), record["begins"]
    return select_phrases(record["scores"], begins or record["scores"], words, threshold, cut=begins is not None)


def keyword_metrics(records: Sequence[Record], threshold: float) -> dict[str, Any]:
    """Compute precision, recall and F1 of tokens and spans: of the selector at several thresholds, and of the rules.

    Args:
        records: Of `keyword_records`.
        threshold: That of the selector.

    Returns:
        By method `tokens`, `spans` (the same phrase) and `spans_half` (IoU of at least one half).
    """
    methods = {f"selector > {value:g}": _selector(value) for value in sorted({threshold, *THRESHOLDS})}
    methods["selector"] = _selector(threshold)
    methods |= {name: _rule(name) for name in RULES if all(name in record["rules"] for record in records)}
    return {name: _summary(records, method) for name, method in methods.items()}


Method = Callable[[Record], tuple[Sequence[int], list[Span]]]


def _selector(threshold: float) -> Method:
    def method(record: Record) -> tuple[Sequence[int], list[Span]]:
        phrases = selected(record, threshold)
        return phrases, phrase_spans(record["text"], record["spans"], phrases)

    return method


def _rule(name: str) -> Method:
    def method(record: Record) -> tuple[Sequence[int], list[Span]]:
        found = [(start, end) for start, end in record["rules"][name]]
        return phrase_of_tokens(record["spans"], found).tolist(), found

    return method


def _summary(records: Sequence[Record], method: Method) -> dict[str, Any]:
    tokens, exact, half = Counts(), Counts(), Counts()
    for record in records:
        phrases, found = method(record)
        truth = phrase_spans(record["text"], record["spans"], record["labels"])
        tokens += token_counts([phrase >= 0 for phrase in phrases], [phrase >= 0 for phrase in record["labels"]])
        exact += span_counts(record["text"], found, truth)
        half += span_counts(record["text"], found, truth, min_iou=0.5)
    counted = {"tokens": tokens, "spans": exact, "spans_half": half}
    return {name: counts.compute() for name, counts in counted.items()}


HEADER = ("method", "token P", "token R", "token F1", "span P", "span R", "span F1", "span F1, IoU >= .5")


def keyword_rows(metrics: dict[str, Any]) -> Iterator[list[Any]]:
    """Write metrics as rows of HEADER, the selector at its threshold and the rules first."""
    for name in sorted(metrics, key=lambda name: name.startswith("selector >")):
        row = metrics[name]
        figures = [row[kind][key] for kind in ("tokens", "spans") for key in ("precision", "recall", "f1")]
        yield [name, *figures, row["spans_half"]["f1"]]
