"""What is asked, what is grounded and what is recorded, with an LMM that says what it is given to say."""

import json

import numpy as np
import pytest
from PIL import Image

from flmm.api import Grounding
from flmm.datasets.reason_seg import read_question
from flmm.evaluation import answers
from flmm.masks import decode_mask

SIZE = (20, 30)


def grounding(text, spans, masks):
    masks = np.array(masks)
    nothing = np.zeros((len(masks), 1, 1), dtype=np.float32)
    scores, boxes = np.ones(len(masks)), np.zeros((len(masks), 4))
    picture = Image.new("RGB", SIZE[::-1])
    return Grounding(picture, text, spans, masks, masks, boxes, scores, nothing, nothing[:, None], nothing, scores)


class Reply:
    def __init__(self, text):
        self.text = text

    def phrases(self):
        return [words for words in ("a cat", "the mat") if words in self.text]

    def ground(self, phrases):
        """Each phrase is a row of the picture: that of its first letter in the text."""
        spans = [p if not isinstance(p, str) else (self.text.index(p), self.text.index(p) + len(p)) for p in phrases]
        masks = [np.arange(SIZE[0])[:, None] == np.full((1, SIZE[1]), start) for start, _ in spans]
        return grounding(self.text, spans, masks)


class Speaker:
    def __init__(self, text):
        self.text, self.asked = text, []

    def answer(self, image, question, max_new_tokens):
        self.asked.append((question, max_new_tokens))
        return Reply(self.text)


def question(folder, text="the lamp", is_sentence=False):
    shapes = [{"label": "target", "points": [[0, 0], [29, 0], [29, 1], [0, 1]]}]  # rows 0 and 1
    (folder / "a.json").write_text(json.dumps({"text": [text], "is_sentence": is_sentence, "shapes": shapes}))
    Image.new("RGB", SIZE[::-1]).save(folder / "a.jpg")
    return read_question(folder / "a.json")


def test_the_words_of_the_reference(tmp_path):
    speaker = Speaker("")
    answers._in_answer(speaker, False, None, question(tmp_path, " the lamp "))
    answers._in_answer(speaker, False, None, question(tmp_path, "Where is light?", is_sentence=True))
    assert speaker.asked == [
        ("What is the lamp in this image? Briefly answer the question in a single sentence.", 16),
        ("Where is light?Briefly answer the question in a single sentence.", 16),
    ]


@pytest.mark.parametrize(("phrases", "rows", "union"), [(False, {0}, 60), (True, {0, 9}, 90)])
def test_records_of_an_answer(tmp_path, phrases, rows, union):
    def find(image, asked):
        return answers._in_answer(Speaker("a cat on the mat"), phrases, image, asked)

    (record,) = answers.reason_seg_records(find, [question(tmp_path)])
    assert record["answer"] == "a cat on the mat"
    assert record["grounded"] == (["a cat", "the mat"] if phrases else ["a cat on the mat"])
    mask = decode_mask(record["refined"]["mask"])
    assert set(mask.nonzero()[0].tolist()) == rows
    assert (record["refined"]["intersection"], record["refined"]["union"]) == (30, union)
    assert (record["height"], record["width"]) == SIZE


def test_an_empty_answer_finds_nothing(tmp_path):
    def find(image, asked):
        return answers._in_answer(Speaker(""), True, image, asked)

    (record,) = answers.reason_seg_records(find, [question(tmp_path)])
    assert (record["refined"]["intersection"], record["refined"]["union"]) == (0, 60)
    assert record["grounded"] == []


def test_an_answer_that_names_nothing_finds_nothing(tmp_path):
    def find(image, asked):
        return answers._in_answer(Speaker("yes"), True, image, asked)

    (record,) = answers.reason_seg_records(find, [question(tmp_path)])
    assert (record["answer"], record["grounded"]) == ("yes", [])
    assert (record["refined"]["intersection"], record["refined"]["union"]) == (0, 60)


def test_errors_name_the_picture(tmp_path):
    def find(image, asked):
        raise ValueError("no place in the context")

    with pytest.raises(ValueError, match=r"^a\.jpg: no place"):
        answers.reason_seg_records(find, [question(tmp_path)])


def test_long_and_short_queries_apart():
    def record(is_sentence, intersection, union):
        scores = {"intersection": intersection, "union": union}
        return {"is_sentence": is_sentence, "refined": scores, "coarse": scores}

    summary = answers.reason_seg_summary([record(True, 1, 2), record(True, 0, 0), record(False, 30, 40)])
    assert summary["images"] == 3
    refined = summary["refined"]
    assert [refined[name]["pictures"] for name in ("overall", "short", "long")] == [3, 1, 2]
    assert refined["long"]["gIoU"] == pytest.approx(75, abs=1e-3)
    assert refined["overall"]["cIoU"] == pytest.approx(100 * 31 / 42)
    assert answers.reason_seg_summary([])["coarse"]["short"] == {"gIoU": None, "cIoU": None, "pictures": 0}


def test_a_caption_with_masks_in_the_published_form():
    found = answers.grounded_caption(Speaker("a cat  on\nthe mat"), None, "What is it?", 100)
    assert found["caption"] == "a cat on the mat"
    assert found["phrases"] == ["a cat", "the mat"]
    assert decode_mask(found["pred_masks"][0])[0].all()
    assert answers.grounded_caption(Speaker(" "), None, "?", 1) == {"caption": "", "phrases": [], "pred_masks": []}
    nothing = answers.grounded_caption(Speaker("yes"), None, "?", 1)
    assert nothing == {"caption": "yes", "phrases": [], "pred_masks": []}
