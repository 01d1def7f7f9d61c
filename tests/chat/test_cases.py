"""Cases: what is labeled, what is reported, and how two runs are compared."""

import json

import numpy as np
import pytest
from families import picture

import flmm
from flmm.chat.case_report import compare, page, read_report
from flmm.chat.cases import Case, answer_tags, box_tags, read_cases, recall
from flmm.chat.reply import Reply
from flmm.cli.main import main


@pytest.fixture(scope="module")
def model():
    return flmm.load(device="cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    picture((168, 168)).save(tmp_path / "ball.png")
    (tmp_path / "broken.png").write_text("no picture")
    return tmp_path


def manifest(folder, *samples):
    file = folder / "cases.json"
    file.write_text(json.dumps({"samples": list(samples)}))
    return str(file)


BALL = {"id": "ball", "image_path": "ball.png", "question": "What is shown?"}
BROKEN = {"id": "broken", "image_path": "broken.png", "question": "What <is> shown?", "answer_contains": ["nothing"]}
FOLLOW = BALL | {
    "id": "follow",
    "history": [{"role": "user", "text": "What?"}, {"role": "assistant", "text": "a circle"}],
    "answer_contains": ["a word that is never said"],
    "expected_bbox": [160, 160, 168, 168],
    "enable_roi": True,
}


def test_cases_are_asked_reported_and_compared(model, folder, capsys, monkeypatch):
    monkeypatch.setattr("flmm.api.load", lambda *_: model)
    out = folder / "out"
    file = manifest(folder, BALL, BROKEN, FOLLOW)
    assert main(["cases", file, "--out", str(out), "--max-new-tokens", "12"]) == 0
    report = json.loads((out / "report.json").read_text())
    tags = {record["case"]["id"]: record["tags"] for record in report["samples"]}
    assert tags["broken"] == ["sample_error"]
    assert {"answer_missing_required_text", "bbox_low_iou"} <= set(tags["follow"])
    assert report["summary"]["num_samples"] == 3
    assert report["summary"]["tag_counts"]["sample_error"] == 1
    look = report["samples"][2]["look"]
    assert ("roi_answer_changed" in tags["follow"]) == (look["answer"] != report["samples"][2]["answer"])
    assert (out / "pictures/ball.png").is_file()
    html = (out / "report.html").read_text()
    assert "pictures/ball.png" in html
    assert "What &lt;is&gt; shown?" in html
    lines = [json.loads(line) for line in (out / "review.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["ball", "broken", "follow"]
    assert lines[0]["manual_review"]["answer_judgment"] is None

    (out / "review.jsonl").write_text("filled in")
    asked = []
    monkeypatch.setattr(type(model), "chat", lambda self, *args, **kwargs: asked.append(args) or 1 / 0)
    (folder / "cases.json").write_text(json.dumps({"samples": [BALL, BROKEN, FOLLOW]}))
    assert main(["cases", file, "--out", str(out), "--max-new-tokens", "12", "--compare", str(out)]) == 0
    assert asked == []  # every record was there
    assert (out / "review.jsonl").read_text() == "filled in"
    assert json.loads((out / "report.json").read_text())["comparison"]["broken"] == []


def test_two_runs_are_compared():
    def run(**tags):
        return [{"case": {"id": name}, "tags": own, "answer": "".join(own)} for name, own in tags.items()]

    found = compare(run(a=["x"], b=[], c=["x"], d=[], old=[]), run(a=[], b=["y"], c=["z"], d=[], new=[]))
    assert found["fixed"] == ["a"]
    assert found["broken"] == ["b"]
    assert found["tags"] == [["c", ["x"], ["z"]]]
    assert [name for name, *_ in found["answers"]] == ["a", "b", "c"]
    assert (found["only_old"], found["only_new"]) == (["old"], ["new"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["answer_empty", "answer_missing_required_text"]),
        ("a red circle", []),
        ("a RED square", ["answer_contains_forbidden_text"]),
        ("red red red red", ["answer_decoding_artifact"]),
        ("red <|im_end|>", ["answer_decoding_artifact"]),
        ("a red one in squares", []),
    ],
)
def test_answers_are_labeled(model, folder, text, expected):
    chat = model.chat(folder / "ball.png")
    reply = chat.recall("What?", "red")
    said = Reply(reply.prompt, reply.token_ids)
    said.text = text
    case = Case("a", "a.png", "What?", answer_contains=["red"], answer_not_contains=["square"])
    assert answer_tags(said, case) == expected


class Found:
    def __init__(self, *boxes):
        self.boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        self.masks = self.boxes[:, 2:, None] > 0


def test_boxes_are_labeled():
    assert box_tags(None, None, 0.3) == (None, [])
    assert box_tags(None, [0, 0, 9, 9], 0.3) == (0.0, ["bbox_missing"])
    assert box_tags(Found([0, 0, 0, 0]), None, 0.3) == (None, ["ground_missing"])
    assert box_tags(Found([0, 0, 10, 10], [50, 50, 60, 60]), [50, 50, 60, 65], 0.3) == (0.6667, [])
    assert box_tags(Found([0, 0, 10, 10]), [5, 0, 15, 10], 0.4) == (0.3333, ["bbox_low_iou"])


def test_history_is_recalled_or_asked(model, folder):
    chat = model.chat(folder / "ball.png")
    turns = [("user", "What?"), ("assistant", "a red circle"), ("user", "And?"), ("user", "Why?"), ("assistant", "red")]
    recall(chat, [{"role": role, "text": text} for role, text in turns], 5)
    assert [reply.question for reply in chat.replies] == ["What?", "And?", "Why?"]
    assert chat.replies[0].text == "a red circle"
    assert chat.replies[2].text == "red"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no manifest"),
        ("{}", "is no manifest"),
        ({"samples": []}, "holds no case"),
        ({"samples": [BALL | {"answer": "red"}]}, r"case 0 \('ball'\) has unknown keys \['answer'\]"),
        ({"samples": [{"id": "a", "question": "What?"}]}, r"lacks \['image_path'\]"),
        ({"samples": [BALL, BALL]}, r"\['ball'\] are used twice"),
        ({"samples": [BALL | {"id": "../a"}]}, "an id names files"),
        ({"samples": [BALL | {"id": 5}]}, r"case 0 \(5\): id is 5, but must be a text"),
        ({"samples": ["ball"]}, "case 0 is 'ball', but must be an object"),
        ({"samples": [BALL | {"answer_contains": "red"}]}, "answer_contains is 'red', but must be a list of texts"),
        ({"samples": [BALL | {"expected_bbox": [5, 5, 1, 9]}]}, "expected_bbox is .* x0 < x1"),
        ({"samples": [BALL | {"auto_topk": True}]}, "auto_topk is True"),
        ({"samples": [BALL | {"history": FOLLOW["history"][1:]}]}, "history is .* each answer behind its question"),
    ],
)
def test_manifests_that_are_none_are_refused(folder, content, message):
    file = folder / "cases.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_cases(file)
    with pytest.raises(FileNotFoundError):
        read_cases(folder / "nowhere.json")


def test_a_report_that_is_none_is_refused(folder):
    (folder / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="no report of"):
        read_report(folder)
    assert "<h1>0 of 0" in page({"summary": {"num_success": 0, "num_samples": 0, "tag_counts": {}}, "samples": []})
