"""From what the selector says of tokens to the table."""

import pytest
import torch
from golden_cases import GOLDEN
from transformers import AutoTokenizer

from flmm.evaluation.keyword_run import caption_text, keyword_metrics, keyword_rows, selected

WORDS = ["a", "red", "ball", "on", "the", "meadow", "trees", "."]


def record(scores, begins=None, truth=(0, 0, 0, -1, 1, 1, 2, -1)):
    text = " ".join(WORDS)
    starts = [sum(len(word) + 1 for word in WORDS[:i]) for i in range(len(WORDS))]
    spans = [[start, start + len(word)] for start, word in zip(starts, WORDS, strict=True)]
    rules = {"English rule": [[0, 10], [14, 24]]}
    return {"text": text, "spans": spans, "scores": scores, "begins": begins, "labels": list(truth), "rules": rules}


SCORES = [0.35, 0.9, 0.9, 0.1, 0.8, 0.8, 0.6, 0.05]


def test_the_threshold_and_the_cut():
    begins = [0.9, 0, 0, 0, 0.9, 0, 0.9, 0]
    assert selected(record(SCORES, begins), 0.3) == [0, 0, 0, -1, 1, 1, 2, -1]
    assert selected(record(SCORES), 0.3) == [0, 0, 0, -1, 1, 1, 1, -1]
    assert selected(record(SCORES, begins), 0.7) == [-1, 0, 0, -1, 1, 1, -1, -1]


def test_metrics():
    begins = [0.9, 0, 0, 0, 0.9, 0, 0.9, 0]
    metrics = keyword_metrics([record(SCORES, begins), record(SCORES)], threshold=0.3)
    own = metrics["selector"]
    assert own["tokens"] == {"precision": 100, "recall": 100, "f1": 100}
    # 3 of 3, then "a red ball" and "the meadow trees", of which the meadow is half
    assert own["spans"]["f1"] == pytest.approx(100 * 2 * 4 / (5 + 6))
    assert own["spans_half"]["f1"] == pytest.approx(100 * 2 * 5 / (5 + 6))
    assert metrics["selector > 0.7"]["tokens"]["recall"] == pytest.approx(100 * 8 / 12)
    rule = metrics["English rule"]  # "a red ball", "the meadow"
    assert rule["tokens"]["recall"] == pytest.approx(100 * 10 / 12)
    assert rule["spans"] == {"precision": 100, "recall": pytest.approx(100 * 4 / 6), "f1": 80}
    assert [row[0] for row in keyword_rows(metrics)][:2] == ["selector", "English rule"]


def test_a_caption_gets_its_spaces_back():
    """Its pieces are tokenized one by one, and not every tokenizer marks where a word begins."""
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "comp_datasets/tokenizer_with_image")
    pieces = [("a red ball", 0), ("on", -1), ("the grass", 1), (".", -1)]
    ids = [tokenizer.encode(words, add_special_tokens=False) for words, _ in pieces]
    phrases = [phrase for own, (_, phrase) in zip(ids, pieces, strict=True) for _ in own]
    text, spans = caption_text(tokenizer, torch.tensor(sum(ids, [])), phrases)
    assert text == "a red ball on the grass ."
    assert len(spans) == len(phrases)
    assert text[spans[0][0] : spans[len(ids[0]) - 1][1]] == "a red ball"
