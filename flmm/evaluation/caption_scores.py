"""How like annotated ones captions and phrases are: CIDEr, METEOR, and the similarity of a text encoder."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from flmm.evaluation.gcg import Similarity, exact_similarity

Texts = Mapping[Any, Sequence[str]]


def caption_scores(captions: Mapping[Any, str], references: Texts) -> tuple[dict[str, float | None], list[str]]:
    """Scores captions by pycocoevalcap.

    Args:
        captions: One for each picture.
        references: One or more for each picture.

    Returns:
        `METEOR` and `CIDEr` in percent, None for what cannot be computed here, and why, in words.
    """
    scores: dict[str, float | None] = {"METEOR": None, "CIDEr": None}
    if not captions:
        return scores, ["METEOR and CIDEr: there is no caption"]
    from pycocoevalcap.cider.cider import Cider

    guesses, truths = ({image: list(texts[image]) for image in captions} for texts in (_single(captions), references))
    if problem := _java_problem():
        scores["CIDEr"] = 100 * float(Cider().compute_score(_words(truths), _words(guesses))[0])
        return scores, [
            f"METEOR needs Java, and {problem}: install a Java runtime",
            "CIDEr is of words split without Java's Penn Treebank tokenizer: figures may differ in the first decimal",
        ]
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    split = PTBTokenizer()
    truths, guesses = (
        split.tokenize({i: [{"caption": text} for text in t] for i, t in texts.items()}) for texts in (truths, guesses)
    )
    scores["CIDEr"] = 100 * float(Cider().compute_score(truths, guesses)[0])
    scores["METEOR"] = 100 * float(Meteor().compute_score(truths, guesses)[0])
    return scores, []


def _java_problem() -> str:
    """Say why no Java program can be run here; empty when one can."""
    java = shutil.which("java")
    if java is None:
        return "there is no `java` on the PATH"
    try:
        status = subprocess.run([java, "-version"], capture_output=True, timeout=60).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{java} does not run ({error})"
    return f"`{java} -version` ends with status {status}" if status else ""


def _single(captions: Mapping[Any, str]) -> dict[Any, list[str]]:
    return {image: [caption] for image, caption in captions.items()}


# numbers and times; abbreviations; "does n't", "can not"; joined words; 's, 're; signs that are words
_WORD = re.compile(
    r"\d+(?:[.,:/]\d+)+|(?:\w\.){2,}|\w+(?=n't\b)|n't\b|can(?=not\b)|\w+(?:[-./]\w+)*(?!n't)|'\w+|[&$%#]"
)


def _words(texts: Texts) -> dict[Any, list[str]]:
    """Texts in lower case, words apart and without punctuation, much as the Penn Treebank tokenizer leaves them."""
    return {image: [" ".join(_WORD.findall(text.lower())) for text in several] for image, several in texts.items()}


def text_similarity(name: str | None) -> Similarity | None:
    """Return the similarity of phrases by name.

    Args:
        name: 'exact' for 1 or 0 (equal after lower-casing), or a text encoder of the Hugging Face hub or of a folder;
            the published figures are of 'bert-base-uncased'. None gives none.

    Raises:
        ValueError: When there is no such encoder.
    """
    if name is None:
        return None
    return exact_similarity if name == "exact" else _encoder_similarity(name)


def _encoder_similarity(name: str) -> Similarity:
    """Cosine of the mean last hidden states of two texts, as in GLaMM's evaluation."""
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no text encoder {name!r} ({str(error).splitlines()[0]}): name a folder or a repository of the hub, e.g. "
            "bert-base-uncased, or use --similarity exact"
        ) from error

    @cache
    @torch.no_grad()
    def embed(text: str) -> torch.Tensor:
        inputs = tokenizer(text, return_tensors="pt", max_length=512, truncation=True)
        return model(**inputs).last_hidden_state[0].float().mean(0)

    return lambda one, other: float(torch.cosine_similarity(embed(one), embed(other), dim=0))
