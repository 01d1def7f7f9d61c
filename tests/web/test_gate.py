"""What never reaches gradio."""

import asyncio
import json

import pytest

from flmm.web.gate import LOOPBACK, Gate, holds_file


def asked(path="/", method="GET", body=b"", host="127.0.0.1:7860", prefix="", hosts=LOOPBACK, **headers):
    """Status of a request; 200 when it is passed on."""
    passed, answers = [], []

    async def app(scope, receive, send):
        passed.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        answers.append(message)

    pairs = [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in headers.items())]
    scope = {"type": "http", "path": path, "method": method, "headers": pairs}
    asyncio.run(Gate(app, 1000, hosts, prefix)(scope, receive, send))
    assert not passed or passed == [body]
    return answers[0]["status"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://localhost/",
        "/gradio_api/upload",
        "/gradio_api/deep_link",
        "/gradio_api/run/ask",
        "/gradio_api/api/ask",
        "/gradio_api/stream/x",
        "/gradio_api/component_server",
        "/gradio_api/dev/reload",
        "/gradio_api/vibe-edit",
        "/monitoring",
        "/static/../../../etc/passwd",
        "/assets/..",
        "/docs",
    ],
)
def test_paths_that_the_page_does_not_need_are_not_there(path):
    assert asked(path) == 404
    assert asked(path, "POST") == 404


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/index-1.js", "/gradio_api/queue/data", "/gradio_api/call/ask/1f"]
)
def test_those_that_it_needs_are(path):
    assert asked(path) == 200
    assert asked(f"/below{path}", prefix="/below") == 200
    assert asked(f"/below{path}", prefix="https://example.com/below/") == 200


def test_other_sites_and_other_names_are_kept_out():
    assert asked(host="evil.example") == 403
    assert asked(host="evil.example", hosts=()) == 200
    assert asked("/gradio_api/queue/join", "POST", b"{}", origin="https://evil.example") == 403
    assert asked("/gradio_api/queue/join", "POST", b"{}", origin="http://localhost:7860") == 200


def test_long_bodies_and_files_are_refused():
    path = "/gradio_api/queue/join"
    assert asked(path, "POST", b"x" * 1001) == 413
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for body in ([file], {"data": [{"deep": [file]}]}, {"data": [{"path": "http://169.254.169.254/"}]}):
        assert asked(path, "POST", json.dumps(body).encode()) == 400
    assert holds_file(b'{"data": [{"\\u0070ath": "/etc/passwd"}]}')
    assert not holds_file(b'{"data": ["the path of a file"]}')
    assert asked(path, "POST", json.dumps({"data": ["a"]}).encode()) == 200
