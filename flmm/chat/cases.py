"""Questions whose answers are known: ask them all, and label what goes wrong."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flmm.api import Grounding, GroundingModel
from flmm.chat.conversation import Conversation
from flmm.chat.reply import Reply
from flmm.datasets.annotations import is_list_of
from flmm.evaluation import box_iou

LOW_IOU = 0.3
# What no LMM says when it is read as it was trained: halves of letters, markup of its chat format, a word four times.
ARTIFACTS = re.compile("\N{REPLACEMENT CHARACTER}" r"|<\|?/?\w+\|?>|\b(\w+)(?:\W+\1\b){3}")


@dataclass(frozen=True)
class Case:
    """A question with what is expected of its answer.

    Attributes:
        id: Name of the case; also that of its picture in the report.
        image_path: The picture, relative to the manifest.
        question: The question.
        history: Turns before it, each {"role": "user" | "assistant", "text": ...}; a user's turn without an answer is
            asked.
        answer_contains: Texts that the answer must hold; letter case does not matter.
        answer_not_contains: Texts that it must not hold as whole words.
        expected_bbox: x0, y0, x1, y1 in pixels of what the answer is about; None when it is not known.
        enable_roi: Whether to look again at the first phrase.
        auto_topk: How many phrases of the answer are grounded.
        notes: For people.
        manual_failure_tags: Labels that somebody gave.
    """

    id: str
    image_path: str
    question: str
    history: list[dict[str, str]] = field(default_factory=list)
    answer_contains: list[str] = field(default_factory=list)
    answer_not_contains: list[str] = field(default_factory=list)
    expected_bbox: list[float] | None = None
    enable_roi: bool = False
    auto_topk: int = 1
    notes: str = ""
    manual_failure_tags: list[str] = field(default_factory=list)


def read_cases(file: str | Path) -> list[Case]:
    """Read a manifest: {"samples": [case, ...]}, each with the keys of `Case`.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is no such manifest; names the case and the key.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no manifest {file}")
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        samples = list(content["samples"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is no manifest ({error!r}): it must be JSON with a list 'samples' of cases"
        ) from error
    cases = [_case(f"{file}: case {number}", sample) for number, sample in enumerate(samples)]
    if twice := {case.id for case in cases if [one.id for one in cases].count(case.id) > 1}:
        raise ValueError(f"{file}: the ids {sorted(twice)} are used twice")
    if not cases:
        raise ValueError(f"{file} holds no case")
    return cases


def _case(name: str, sample: Any) -> Case:
    """A case of a manifest; ValueError that begins with its name when it is none."""
    known = {one.name for one in fields(Case)}
    if not isinstance(sample, dict):
        raise ValueError(f"{name} is {sample!r}, but must be an object with the keys {sorted(known)}")
    name = f"{name} ({sample.get('id')!r})"
    if unknown := sorted(set(sample) - known):
        raise ValueError(f"{name} has unknown keys {unknown}: known are {sorted(known)}")
    if missing := [key for key in ("id", "image_path", "question") if not sample.get(key)]:
        raise ValueError(f"{name} lacks {missing}")
    for key, (fits, form) in FORMS.items():
        if key in sample and not fits(sample[key]):
            raise ValueError(f"{name}: {key} is {sample[key]!r}, but must be {form}")
    if not re.fullmatch(r"[\w.-]+", sample["id"]):
        raise ValueError(f"{name}: an id names files, so it may hold letters, digits and . _ - only")
    return Case(**sample)


def _is_history(turns: Any) -> bool:
    """Whether turns have a role and a text, and every answer of the assistant has a question before it."""
    if not is_list_of(dict, turns) or not all(isinstance(turn.get("text"), str) for turn in turns):
        return False
    roles = [turn.get("role") for turn in turns]
    before = ["assistant", *roles]
    return set(roles) <= {"user", "assistant"} and ("assistant",) * 2 not in zip(before, roles, strict=False)


def _is_box(box: Any) -> bool:
    return is_list_of(int | float, box) and len(box) == 4 and box[0] < box[2] and box[1] < box[3]


_TEXT = (lambda value: isinstance(value, str), "a text")
_TEXTS = (lambda value: is_list_of(str, value), "a list of texts")
FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("id", "image_path", "question", "notes"), _TEXT),
    **dict.fromkeys(("answer_contains", "answer_not_contains", "manual_failure_tags"), _TEXTS),
    "history": (_is_history, 'a list of {"role": "user" or "assistant", "text": ...}, each answer behind its question'),
    "expected_bbox": (
        lambda value: value is None or _is_box(value),
        "x0, y0, x1, y1 with x0 < x1 and y0 < y1, or null",
    ),
    "auto_topk": (lambda value: type(value) is int and value >= 0, "a number of phrases, 0 or more"),
    "enable_roi": (lambda value: isinstance(value, bool), "true or false"),
}


def run_cases(
    model: GroundingModel,
    cases: Sequence[Case],
    root: Path,
    out: Path,
    run: Mapping[str, Any],
    max_new_tokens: int = 200,
    low_iou: float = LOW_IOU,
) -> Iterator[dict[str, Any]]:
    """Ask the questions of cases; what an earlier call with the same `run` did is taken from its files.

    Args:
        model: The model to talk to.
        cases: The cases.
        root: Folder that their pictures are relative to.
        out: Folder for `samples/ID.json` and `pictures/ID.png`.
        run: What the records depend on beside the case, such as config and checkpoint.
        max_new_tokens: Longest answer.
        low_iou: Boxes that overlap less than this with the expected one are labeled.

    Yields:
        A record per case: `case`, `run`, `answer`, `phrases`, `grounded`, `look`, `iou`, `seconds`, `tags`.
    """
    from flmm.evaluation.records import write_json
    from flmm.training.fingerprint import file_digest

    for folder in ("samples", "pictures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for case in cases:
        image = root / case.image_path
        picture = file_digest(image) if image.is_file() else "none"
        options = {"max_new_tokens": max_new_tokens, "low_iou": low_iou}
        head = {"case": asdict(case), "picture": picture, "run": {**run, **options}}
        file = out / "samples" / f"{case.id}.json"
        if file.is_file() and head.items() <= (record := json.loads(file.read_text())).items():
            yield record
            continue
        start = time.perf_counter()
        try:
            record = head | _run(model, case, root, out, max_new_tokens, low_iou)
        except (ValueError, OSError, RuntimeError) as error:  # one bad case leaves the others to be asked
            record = head | {"tags": ["sample_error"], "error": str(error), "answer": "", "grounded": []}
        record["seconds"] = round(time.perf_counter() - start, 2)
        write_json(file, record)
        yield record


def picture_file(out: Path, case: Case) -> Path:
    """Where the drawing of a case goes."""
    return out / "pictures" / f"{case.id}.png"


def _run(
    model: GroundingModel, case: Case, root: Path, out: Path, max_new_tokens: int, low_iou: float
) -> dict[str, Any]:
    chat = model.chat(root / case.image_path)
    recall(chat, case.history, max_new_tokens)
    reply = chat.ask(case.question, max_new_tokens)
    phrases = reply.phrases()
    record: dict[str, Any] = {"answer": reply.text, "phrases": [one._asdict() for one in phrases]}
    tags, grounding = answer_tags(reply, case), None
    try:
        grounding = reply.ground(chosen) if (chosen := phrases[: case.auto_topk]) else None
    except (ValueError, RuntimeError) as error:
        tags.append("ground_error")
        record["ground_error"] = str(error)
    record["grounded"] = [asdict(one) | {"phrase": one.phrase._asdict()} for one in reply.grounded]
    record["iou"], more = box_tags(grounding, case.expected_bbox, low_iou)
    if grounding is not None:
        grounding.draw().save(picture_file(out, case))
    if case.enable_roi and phrases:
        look = chat.look(phrase=phrases[0], max_new_tokens=max_new_tokens)
        record["look"] = {"box": look.box, "answer": look.second.text}
        more += ["roi_answer_changed"] * (look.second.text != reply.text)
    return record | {"tags": tags + more}


def recall(chat: Conversation, history: Sequence[Mapping[str, str]], max_new_tokens: int) -> None:
    """Put turns that were held elsewhere before the next question; ask what has no answer."""
    for index, turn in enumerate(history):
        following = history[index + 1] if index + 1 < len(history) else {"role": "user"}
        if turn["role"] == "user" and following["role"] == "assistant":
            chat.recall(turn["text"], following["text"])
        elif turn["role"] == "user":
            chat.ask(turn["text"], max_new_tokens)


def answer_tags(reply: Reply, case: Case) -> list[str]:
    """Return the labels of an answer's text."""
    text = reply.text.lower()
    found = {
        "answer_empty": not text,
        "answer_cut": reply.cut,
        "answer_decoding_artifact": ARTIFACTS.search(reply.text) is not None,
        "phrase_missing": bool(text) and case.expected_bbox is not None and not reply.phrases(),
        "answer_missing_required_text": any(one.lower() not in text for one in case.answer_contains),
        "answer_contains_forbidden_text": any(says(reply.text, one) for one in case.answer_not_contains),
    }
    return [tag for tag, applies in found.items() if applies]


def says(text: str, words: str) -> bool:
    """Tell whether a text holds some words as whole words: "snow" does not say "no"."""
    apart = r"(?<![^\W\u3040-\u9fff]){}(?![^\W\u3040-\u9fff])"  # Chinese and Japanese do not part words
    return re.search(apart.format(re.escape(words)), text, re.IGNORECASE) is not None


def box_tags(
    grounding: Grounding | None, expected: Sequence[float] | None, low_iou: float
) -> tuple[float | None, list[str]]:
    """IoU of the best box with the expected one, and labels of what was grounded."""
    boxes = (
        []
        if grounding is None
        else [box for box, mask in zip(grounding.boxes, grounding.masks, strict=True) if mask.any()]
    )
    tags = ["ground_missing"] * (grounding is not None and not boxes)
    if expected is None:
        return None, tags
    if not boxes:
        return 0.0, [*tags, "bbox_missing"]
    target = torch.tensor([list(expected)] * len(boxes), dtype=torch.float32)
    iou = float(box_iou(torch.from_numpy(np.stack(boxes)), target).max())
    return round(iou, 4), tags + ["bbox_low_iou"] * (iou < low_iou)
