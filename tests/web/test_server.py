"""The served page as programs and strangers see it."""

import argparse
import base64
import io
import re
import tempfile
import zipfile
from pathlib import Path

import httpx
import pytest
from families import picture
from gradio_client import Client
from gradio_client.exceptions import AppError
from web_page import call, data_url, png

from flmm.cli import web
from flmm.cli.main import main
from flmm.masks import decode_mask
from flmm.web.server import example_files, serve

FILE = {"path": str(Path(__file__)), "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def client(address):
    client = Client(address, verbose=False, download_files=False)
    yield client
    client.close()


def test_functions_answer_as_the_library_does(model, client):
    image = picture((168, 120))
    assert call(client, "open", data_url(png(image))) == {"width": 168, "height": 120, "number": 0}
    said = call(client, "ask", "What is shown?", 12)
    reply = model.chat(image).ask("What is shown?", 12)
    assert (said["text"], said["cut"]) == (reply.text, reply.cut)
    assert [one["text"] for one in said["phrases"]] == [one.text for one in reply.phrases()]
    (found,) = call(client, "ground", [[0, 3]], said["source"])
    expected = reply.ground([(0, 3)])
    assert (decode_mask(found["mask"]) == expected.masks[0]).all()
    assert found["score"] == pytest.approx(float(expected.scores[0]))
    box = [10, 10, 90, 90]
    assert call(client, "region", box, "")["tokens"][0]["lift"] == pytest.approx(
        reply.region_to_token(box).tokens[0].lift, abs=1e-3
    )
    assert len(call(client, "hide", box, "")) == len(reply.tokens)
    shares = call(client, "heat", said["text"][:3], "0", "mean", "")["share"]
    assert sum(map(sum, shares)) == pytest.approx(1, abs=1e-3)
    assert call(client, "look", box, "")["first"] == reply.text
    sentence = call(client, "say", "a red ball on the grass", ["a red ball"])
    assert [one["text"] for one in sentence["found"]] == ["a red ball"]
    file = call(client, "download")
    names = zipfile.ZipFile(io.BytesIO(base64.b64decode(file["url"].partition(",")[2]))).namelist()
    assert {"conversation_1/conversation.json", "conversation_1/masks.json"} <= set(names)
    assert call(client, "reset") == {}
    with pytest.raises(AppError, match="no answer yet"):
        call(client, "ground", [], "")


def test_the_example_of_the_docs_runs(address, monkeypatch, tmp_path):
    text = Path(__file__).parents[2].joinpath("docs/web.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    picture((168, 120)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(example.replace("http://127.0.0.1:7860", address), found)
    assert decode_mask(found["mask"]).shape == (120, 168)
    assert found["again"]["first"] == found["reply"]["text"]
    assert len(found["changes"]) == len(found["words"]["tokens"])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--port", "99999999"], "--port 99999999: ports are numbers from 1 to 65535"),
        (["--port", "0"], "--port 0: ports are numbers"),
        (["--host", "1.2.3.4"], "cannot listen at 1.2.3.4, port from 7860: "),
        (["--host", "no host"], "cannot listen at no host, port from 7860: "),
    ],
)
def test_where_the_page_cannot_listen_is_said_before_the_model_is_loaded(words, fault, monkeypatch, capsys):
    monkeypatch.setattr("flmm.api.load", None)
    assert main(["web", *words]) == 1
    assert fault in capsys.readouterr().err


def test_a_port_in_use_is_refused_before_the_model_is_loaded(address, monkeypatch, capsys):
    monkeypatch.setattr("flmm.api.load", None)
    port = address.rstrip("/").rpartition(":")[2]
    assert main(["web", "--port", port]) == 1
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err


def test_a_session_sees_nothing_of_another(address, client):
    call(client, "open", data_url(png(picture((168, 120)))))
    call(client, "ask", "What is shown?", 4)
    other = Client(address, verbose=False, download_files=False)
    try:
        for name, *values in (("download",), ("ground", [], "reply 0"), ("ask", "What?", 4)):
            with pytest.raises(AppError, match="There is no picture"):
                call(other, name, *values)
    finally:
        other.close()


def test_what_is_refused_is_said_and_the_page_goes_on(client, limits):
    assert call(client, "open", data_url(png(picture((60, 60)))))["width"] == 60
    for picture_, words in ((data_url(b"<svg/>"), "no picture"), ("http://127.0.0.1/x.png", "no picture")):
        with pytest.raises(AppError, match=words):
            call(client, "open", picture_)
    with pytest.raises(AppError, match="at most 500"):
        call(client, "ask", "x" * 501, "")
    with pytest.raises(AppError, match="JSON list"):
        call(client, "say", "a red ball", "a red ball")
    call(client, "say", "a red ball", [])
    with pytest.raises(AppError, match="lies outside"):
        call(client, "region", [900, 900, 910, 910], "sentence 0")
    assert call(client, "ask", "What?", 3)["text"]


def posted(address, data, name="open"):
    return httpx.post(f"{address}gradio_api/call/{name}", json={"data": data}, timeout=60)


def test_no_file_of_the_server_can_be_read(address):
    for path in (
        "gradio_api/file=/etc/hostname",
        f"gradio_api/file={__file__}",
        "file=/etc/hostname",
        "static/%2e%2e/%2e%2e/__init__.py",
    ):
        assert httpx.get(f"{address}{path}").status_code == 404, path
    assert posted(address, [FILE]).status_code == 400
    assert httpx.post(f"{address}gradio_api/upload", files={"files": b"x"}).status_code == 404
    assert httpx.get(address, headers={"host": "evil.example"}).status_code == 403
    assert httpx.post(f"{address}gradio_api/queue/join", content=b"x" * 3 * 2**20).status_code == 413


def test_nothing_is_left_in_temporary_folders(client):
    before = {path.name for path in Path(tempfile.gettempdir()).iterdir()}
    call(client, "open", data_url(png(picture((60, 60)))))
    call(client, "say", "a red ball", [])
    call(client, "download")
    new = {path.name for path in Path(tempfile.gettempdir()).iterdir()} - before
    assert not [name for name in new if name.startswith(("flmm", "gradio"))]


def test_the_page_tells_nothing_but_its_functions(address):
    info = httpx.get(f"{address}gradio_api/info").json()
    assert sorted(info["named_endpoints"]) == sorted(
        f"/{name}" for name in ("open", "ask", "ground", "say", "region", "hide", "heat", "look", "reset", "download")
    )
    text = httpx.get(address).text
    assert "fonts.googleapis" not in text


def test_auth_and_root_path(model):
    page, address = serve(model, auth=[("ada", "secret")], root_path="/flmm", wait=False)
    try:
        assert httpx.get(f"{address}config").status_code == 401
        assert posted(address, [""]).status_code == 401
        with httpx.Client() as known:
            login = {"username": "ada", "password": "wrong"}
            assert known.post(f"{address}login", data=login).status_code == 400
            assert known.post(f"{address}login", data=login | {"password": "secret"}).status_code == 200
            assert known.get(f"{address}config").json()["root"].endswith("/flmm")
            assert known.get(f"{address}flmm/config").status_code == 200
    finally:
        page.close()


def test_it_listens_on_this_machine_only(served):
    assert served[0].server_name == "127.0.0.1"
    parser = argparse.ArgumentParser()
    web.add_arguments(parser)
    assert parser.parse_args([]).host == "127.0.0.1"


def test_what_the_command_refuses(capsys, tmp_path):
    for words, said in (
        (["--auth", "ada"], "NAME:PASSWORD"),
        (["--seconds", "0"], "seconds=0.0"),
        (["--config", "nowhere.py"], "nowhere.py"),
    ):
        assert main(["web", *words]) == 1
        assert said in capsys.readouterr().err
    (tmp_path / "broken.png").write_bytes(b"x")
    (tmp_path / "good.png").write_bytes(png(picture((20, 20))))
    assert [path.name for path in example_files(tmp_path)] == ["good.png"]
    assert example_files(tmp_path / "nowhere") == []
