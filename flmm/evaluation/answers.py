"""Evaluations in which the LMM answers first: reasoning segmentation and grounded conversation generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flmm.api import Grounding, GroundingModel
from flmm.config import sample_settings
from flmm.datasets import gcg
from flmm.datasets.reason_seg import Question, ReasonSeg, open_question
from flmm.datasets.sample import SampleBuilder
from flmm.evaluation.reason_seg import QUERIES, ReasonSegMetric, count_pixels
from flmm.evaluation.records import Record, write_json
from flmm.evaluation.run import Evaluation, Metrics, naming_files
from flmm.masks import encode_mask

# The reference's words; after a long query no space stands before the instruction.
BRIEFLY = "Briefly answer the question in a single sentence."
BEGINNING = "It is"
MAX_NEW_TOKENS = 16
VARIANTS = {
    "answer": f"all words of the answer, which is begun with {BEGINNING!r} (the reference's way)",
    "phrases": "the phrases of that answer, their masks joined",
    "question": "the words of the question; nothing is answered",
}
# The reference's default, before it took the benchmark out.
GCG_QUESTION = "Briefly describe the objects that appear in this image."
Found = tuple[str, list[str], Grounding | None]  # answer, grounded phrases, masks


def evaluate_reason_seg(evaluation: Evaluation, split: str, variant: str) -> Metrics:
    """Compute gIoU and cIoU of a split, per kind of mask and length of query.

    Args:
        evaluation: The model; `data_root` is the folder of ReasonSeg.
        split: train, val or test.
        variant: One of VARIANTS.
    """
    find = finder(evaluation.model, sample_settings(evaluation.config), variant)
    root = evaluation.args.data_root
    records = evaluation.records(
        f"reason_seg_{split}",
        variant,
        lambda: ReasonSeg(root, split),
        partial(reason_seg_records, find),
        files=(),
        folders=[Path(root, split)],
    )
    return reason_seg_summary(records)


def finder(model: Any, settings: Mapping[str, Any], variant: str) -> Callable[[Image.Image, Question], Found]:
    """What grounds a query in a picture.

    Args:
        model: A FrozenLMM.
        settings: How it reads samples (`config.sample_settings`).
        variant: One of VARIANTS.
    """
    template = settings["prompt_template"]
    instruction = template["INSTRUCTION"]
    if variant == "question":
        asked = {**template, "INSTRUCTION": instruction[: instruction.index("{input}") + len("{input}")]}
        picture = SampleBuilder(**settings).format.picture
        return partial(_in_question, _speaker(model, settings, asked, prompt=picture))
    begun = {**template, "INSTRUCTION": instruction + BEGINNING}
    return partial(_in_answer, _speaker(model, settings, begun), variant == "phrases")


def _speaker(model: Any, settings: Mapping[str, Any], template: Mapping[str, Any], **changes: Any) -> GroundingModel:
    return GroundingModel(model, SampleBuilder(**{**settings, "prompt_template": template, **changes}))


def _in_question(model: GroundingModel, image: Image.Image, question: Question) -> Found:
    text = query(question).strip()
    return "", [text], model.ground(image, text)


def _in_answer(model: GroundingModel, phrases: bool, image: Image.Image, question: Question) -> Found:
    reply = model.answer(image, query(question) + BRIEFLY, max_new_tokens=MAX_NEW_TOKENS)
    wanted = (reply.phrases() if phrases else [(0, len(reply.text))]) if reply.text else []
    if not wanted:
        return reply.text, [], None
    grounding = reply.ground(wanted)
    return reply.text, grounding.phrases, grounding


def query(question: Question) -> str:
    """What the LMM is asked: a sentence as it is, a phrase as a question."""
    text = question.text.strip()
    return text if question.is_sentence else f"What is {text} in this image? "


def reason_seg_records(find: Callable[[Image.Image, Question], Found], questions: Sequence[Question]) -> list[Record]:
    """Return the records of questions: the answer, and pixels of intersection and union of each kind of mask."""
    records = []
    for question in questions:
        with naming_files([question.image.name]):
            image, truth = open_question(question)
            records.append(_record(question, truth, *find(image, question)))
    return records


def _record(question: Question, truth: np.ndarray, answer: str, phrases: list[str], found: Grounding | None) -> Record:
    record = {
        "file_name": question.image.name,
        "height": truth.shape[0],
        "width": truth.shape[1],
        "query": question.text,
        "is_sentence": question.is_sentence,
        "answer": answer,
        "grounded": phrases,
    }
    nothing = np.zeros((1, *truth.shape), dtype=bool)
    masks = {"refined": nothing, "coarse": nothing}
    if found is not None:
        masks = {"refined": found.masks, "coarse": found.coarse_masks}
    return record | {kind: _scores(mask, truth) for kind, mask in masks.items()}


def _scores(masks: np.ndarray, truth: np.ndarray) -> Record:
    mask = np.logical_or.reduce(masks)
    intersection, union = count_pixels(mask, truth)
    return {"intersection": intersection, "union": union, "mask": encode_mask(mask)}


def reason_seg_summary(records: Sequence[Record]) -> Metrics:
    """Metrics of records, per kind of mask: `overall`, `short` and `long` queries, each with its number of pictures."""
    return {
        "images": len(records),
        **{kind: {name: _summary(_chosen(records, name), kind) for name in QUERIES} for kind in ("refined", "coarse")},
    }


def _chosen(records: Iterable[Record], name: str) -> list[Record]:
    return [r for r in records if name == "overall" or r["is_sentence"] == (name == "long")]


def _summary(records: Sequence[Record], kind: str) -> Metrics:
    metric = ReasonSegMetric()
    metric.update(*([record[kind][key] for record in records] for key in ("intersection", "union")))
    return {**metric.compute(), "pictures": len(records)}


def infer_gcg(evaluation: Evaluation, split: str, question: str, max_new_tokens: int) -> Path:
    """Describe and ground the pictures of a split; return the folder of predictions in the published format.

    Args:
        evaluation: The model; `data_root` is the folder of GranD-f.
        split: val or test.
        question: What the LMM is asked about each picture.
        max_new_tokens: Longest caption.
    """
    builder = SampleBuilder(**sample_settings(evaluation.config))
    root, model = evaluation.args.data_root, GroundingModel(evaluation.model, builder)
    captions, _ = gcg.annotation_files(root, split)
    folder = evaluation.folder / f"gcg_{split}"
    folder.mkdir(parents=True, exist_ok=True)

    def describe(items: Sequence[tuple[gcg.Id, tuple[int, int]]]) -> list[Record]:
        found = []
        for image_id, size in items:
            with naming_files([str(image_id)]):
                picture = gcg.open_picture(root, image_id, size)
                prediction = grounded_caption(model, picture, question, max_new_tokens)
            write_json(folder / f"{image_id}.json", {"image_id": image_id, **prediction})
            found.append({"image_id": image_id, "caption": prediction["caption"]})
        return found

    asked = {"question": question, "max_new_tokens": max_new_tokens}
    build = partial(_listed, captions)
    pictures = gcg.picture(root, "").parent
    evaluation.records(f"gcg_{split}", "captions", build, describe, [captions], [pictures], **asked)
    return folder


def _listed(captions: Path) -> list[tuple[gcg.Id, tuple[int, int]]]:
    return list(gcg.read_images(captions).items())


def grounded_caption(model: GroundingModel, picture: Image.Image, question: str, max_new_tokens: int) -> Record:
    """What the LMM says about a picture: `caption`, `phrases` and `pred_masks`, one for each phrase."""
    reply = model.answer(picture, question, max_new_tokens)
    caption = " ".join(reply.text.split())
    if not (phrases := reply.phrases()):
        return {"caption": caption, "phrases": [], "pred_masks": []}
    grounding = reply.ground(phrases)
    masks = [encode_mask(mask) for mask in grounding.masks]
    return {"caption": caption, "phrases": grounding.phrases, "pred_masks": masks}
