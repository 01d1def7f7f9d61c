"""A judge on loopback, with the faults that real ones have."""

import json
import runpy
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flmm.evaluation.judge import Judge, JudgeError, cost, judge_records, parse_score

ROOT = Path(__file__).parents[2]
RECORDS = [
    {"question_id": 3, "question": "How much?", "gt": "$2.99", "answer": "2.99"},
    {"question_id": 7, "question": "Which animal?", "gt": "dog", "answer": "a cat"},
]


class Handler(BaseHTTPRequestHandler):
    """Replies what the server's script says next: a status, seconds to wait before it replies, or a text."""

    def do_POST(self):  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked.append((body, self.headers.get("authorization")))
            step = self.server.script.pop(0) if self.server.script else "score: 1"
        if isinstance(step, float):
            time.sleep(step)
            step = "score: 0"
        status, text = (
            (200, json.dumps({"choices": [{"message": {"content": step}}]})) if isinstance(step, str) else step
        )
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lock, server.asked, server.script = threading.Lock(), [], []
    server.url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def waited():
    return []


@pytest.fixture
def judge(server, waited):
    return Judge(server.url, "a-model", "secret", pause=2.0, sleep=waited.append)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("score: 0.8", 0.8),
        ("score: 0.8.", 0.8),
        ("Score:0.8", 0.8),
        ("**Score:** 0.75", 0.75),
        ("score: **1**", 1),
        ("The score is close.\nscore: .5", 0.5),
        ("Score = 1.0 / 1", 1),
        ("score：0", 0),
        ("score: <0.6>", 0.6),
        ('{"score": 0.4}', 0.4),
        ("score: 0.2 ... on reflection, score: 0.9", 0.9),
        ("score: 1.5", 1),
        ("score: 85", None),
        ("I would give it full marks.", None),
        ("score: <score>", None),
        ("", None),
    ],
)
def test_parse_score(reply, score):
    assert parse_score(reply) == score


def test_what_is_asked(server, judge):
    assert judge.ask(judge.request(RECORDS[0])) == "score: 1"
    ((body, authorization),) = server.asked
    assert authorization == "Bearer secret"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("a-model", 0.2, 100)
    system, user = body["messages"]
    assert system["content"].startswith("\nYou are responsible for proofreading the answers, you need to give a score")
    assert system["content"].endswith('"score: <score>". The evaluation criteria require that the closer the model\'s '
                                      "answer is to the standard answer, the higher the score.\n")  # fmt: skip
    assert user["content"] == "\nquestion: How much?\nstandard answer: $2.99\nmodel's answer: 2.99\n"


def test_faults_are_waited_out(server, judge, waited):
    server.script = [(500, "oops"), (429, "slow down"), (503, ""), "score: 0.5"]
    assert judge.ask(judge.request(RECORDS[0])) == "score: 0.5"
    assert waited == [2.0, 7.0, 14.0]  # the server asked for 7 seconds, which are doubled


def test_the_environment_is_read_as_people_write_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " secret\n")  # of a file: a line end would make no header
    assert Judge.from_environment("http://here", "m").key == "secret"
    with pytest.raises(ValueError, match="'localhost:8000' must begin with http"):
        Judge.from_environment("localhost:8000", "m")


def test_a_reply_in_parts_is_joined(server, judge):
    parts = [{"type": "text", "text": "score:"}, {"type": "text", "text": " 0.5"}]
    server.script = [(200, json.dumps({"choices": [{"message": {"content": parts}}]}))]
    assert judge.ask(judge.request(RECORDS[0])) == "score: 0.5"
    server.script = [(200, json.dumps({"choices": [{"message": {"content": 5}}]}))]
    with pytest.raises(JudgeError, match="no OpenAI-compatible server"):
        judge.ask(judge.request(RECORDS[1]))


def test_a_damaged_reply_is_named(judge, tmp_path):
    list(judge_records(judge, RECORDS[:1], tmp_path))
    (file,) = tmp_path.glob("*.json")
    file.write_text("{")
    with pytest.raises(ValueError, match=f"{file.name} is no reply of the judge"):
        list(judge_records(judge, RECORDS[:1], tmp_path))


def test_a_reply_that_does_not_come(server, waited):
    server.script = [0.5]
    judge = Judge(server.url, "a-model", timeout=0.1, sleep=waited.append)
    assert judge.ask(judge.request(RECORDS[0])) == "score: 1"
    assert server.asked[0][1] is None


@pytest.mark.parametrize(
    ("step", "message", "asked"),
    [
        ((401, "no such key"), "refuses the request with status 401: no such key.*OPENAI_API_KEY", 1),
        ((200, "<html>"), "no OpenAI-compatible server.*<html>", 1),
        ((200, "{}"), "no OpenAI-compatible server", 1),
        ((502, "bad gateway"), r"no reply in 5 tries \(status 502: bad gateway\)", 5),
    ],
)
def test_faults_that_stay(server, judge, step, message, asked):
    server.script = [step] * 9
    with pytest.raises(JudgeError, match=message):
        judge.ask(judge.request(RECORDS[0]))
    assert len(server.asked) == asked


def test_nobody_pays_twice(server, judge, tmp_path):
    server.script = ["score: 0.5", (401, "the budget is spent")]
    with pytest.raises(JudgeError, match="budget"):
        list(judge_records(judge, RECORDS, tmp_path, parallel=1))
    assert len(server.asked) == 2
    assert cost(judge, RECORDS, tmp_path)["requests"] == 1
    server.script = ["I cannot say."]
    twice = [*RECORDS, RECORDS[1]]
    judged = list(judge_records(judge, twice, tmp_path))
    assert [(record["score"], record["reply"]) for record in judged] == [
        (0.5, "score: 0.5"),
        (None, "I cannot say."),
        (None, "I cannot say."),
    ]
    assert len(server.asked) == 3
    assert judged[1]["question_id"] == 7
    changed = [{**RECORDS[0], "answer": "$3"}]
    assert cost(judge, changed, tmp_path)["requests"] == 1
    assert next(iter(judge_records(judge, changed, tmp_path)))["score"] == 1


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a script; gives its status and what it printed."""

    def run(script, *words):
        path = str(ROOT / f"scripts/visual_cot/{script}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, words)])
        with pytest.raises(SystemExit) as done:
            runpy.run_path(path, run_name="__main__")
        printed = capsys.readouterr()
        return done.value.code, printed.out + printed.err

    return run


def test_the_commands(server, command, tmp_path):
    for name, records in (("gqa", RECORDS), ("vsr", [{**RECORDS[1], "gt": "Yes", "answer": "yes."}])):
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    (tmp_path / "visual_cot.json").write_text("{}")  # the metrics that lie beside the results
    options = "--judge-url", server.url, "--judge-model", "m", "--pause", 0, "--parallel", 1
    status, printed = command("gpt_eval_cot_score", "--result_dir", tmp_path, *options, "--dry-run")
    assert status == 0, printed
    assert server.asked == []
    assert "standard answer: $2.99" in printed
    assert "nothing was asked" in printed

    server.script = [(429, ""), "score: **0.8**.", "I like cats", "score: 1"]
    status, printed = command("gpt_eval_cot_score", "--result_dir", tmp_path, *options)
    assert status == 0, printed
    assert "gqa, question 7: no score in the judge's reply 'I like cats'" in printed
    gqa = json.loads((tmp_path / "judged/gqa.json").read_text())
    assert (gqa["metrics"]["score"], gqa["metrics"]["unparsed"], gqa["metrics"]["items"]) == (80, 1, 2)
    assert [record["score"] for record in gqa["records"]] == [0.8, None]
    asked = len(server.asked)

    status, printed = command("gpt_eval_cot_score_single", "--result_file", tmp_path / "gqa.json", *options)
    assert (status, len(server.asked)) == (0, asked)
    assert "80.00" in printed
    status, printed = command("gpt_eval_cot_score", "--result_dir", tmp_path, "--offline")
    assert (status, len(server.asked)) == (0, asked)
    assert "100.00" in printed
    server.shutdown()
    changed = tmp_path / "other.json"
    changed.write_text(json.dumps([{**RECORDS[0], "answer": "5"}]))
    down = "--judge-url", "http://127.0.0.1:9/v1/chat/completions", "--pause", 0, "--tries", 2
    status, printed = command("gpt_eval_cot_score_single", "--result_file", changed, *down)
    assert status == 1
    assert "no reply in 2 tries (ConnectError" in printed
    status, printed = command("gpt_eval_cot_score_single", "--result_file", tmp_path / "none.json", *down)
    assert status == 1
    assert "no result file" in printed
    for content, message in (("[]", "is no list of records"), ("[1]", "is no list of records"), ("{", "is no JSON")):
        changed.write_text(content)
        status, printed = command("gpt_eval_cot_score_single", "--result_file", changed, "--offline")
        assert status == 1
        assert f"other.json {message}" in printed
