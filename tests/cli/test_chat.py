"""`flmm chat`, as a script uses it and as somebody types."""

import json

import pytest
from families import picture

import flmm
from flmm.chat import Conversation
from flmm.cli.main import main
from flmm.cli.repl import Session


@pytest.fixture(scope="module")
def model():
    return flmm.load(device="cpu")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    picture((168, 168)).save(path)
    return str(path)


def test_a_script_gets_json(image, capsys):
    assert main(["chat", image, "--question", "What is shown?", "--ground", "--json", "--device", "cpu"]) == 0
    content = json.loads(capsys.readouterr().out)
    (reply,) = content["replies"]
    assert reply["question"] == "What is shown?"
    assert "".join(reply["tokens"]) == reply["text"] != ""
    assert [one["phrase"] for one in reply["grounded"]] == reply["phrases"]
    assert reply["grounded"][0]["mask"]["size"] == [168, 168]
    assert reply["seconds"] > 0
    assert reply["peak_mb"] > 10


def test_what_cannot_be_done_is_said_before_the_model_is_loaded(image, capsys):
    assert main(["chat", image, "--json"]) == 1
    assert "give a --question" in capsys.readouterr().err
    assert main(["chat", "nowhere.jpg"]) == 1
    assert "nowhere.jpg" in capsys.readouterr().err
    assert main(["chat", image, "--question", "What?", "--question", " "]) == 1
    assert "a --question is empty" in capsys.readouterr().err


def test_words_that_cannot_be_grounded_do_not_lose_the_reply(model, image, capsys, monkeypatch):
    monkeypatch.setattr("flmm.api.load", lambda *_: model)
    words = ["chat", image, "--question", "What is shown?", "--ground", "a green dragon"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    text = model.chat(image).ask("What is shown?").text
    assert text in out
    assert "'a green dragon' is not in the text" in err
    assert main([*words, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["replies"][0]["text"] == text
    assert "a green dragon" in content["error"]


def test_ctrl_c_ends_a_reply_and_not_the_conversation(model, image, tmp_path, capsys, monkeypatch):
    stream = Conversation.stream

    def interrupted(self, *words):
        yield next(stream(self, *words))
        raise KeyboardInterrupt

    monkeypatch.setattr(Conversation, "stream", interrupted)
    session = Session(model.chat(image), tmp_path, 12, typed(["What is shown?", "/reset"]))
    session.run()
    assert "(stopped; what was not finished is dropped)\nforgotten" in capsys.readouterr().out
    assert session.chat.ask(max_new_tokens=3).text


def typed(lines):
    lines = iter(lines)

    def read(_prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    return read


def test_an_earlier_session_keeps_its_pictures_and_conversations(model, tmp_path, image, capsys):
    def session(*lines):
        Session(model.chat(image), tmp_path / "out", 3, typed(lines)).run()
        return capsys.readouterr().out

    def files():
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    session("What is shown?", "/save", "And now?", "/save", "/look 10,10,90,90")
    first = files()
    assert {path.name for path in first} == {"001_look.png", "conversation.json", "picture_0.png"}
    assert len(json.loads((tmp_path / "out/conversation/conversation.json").read_text())["replies"]) == 2
    said = session("Other?", f"/save {tmp_path}/out/conversation", "/save", "/look 10,10,90,90", "/reset", "/save")
    assert "conversation exists: name another folder" in said
    assert files().items() >= first.items()
    new = {str(path.relative_to(tmp_path / "out")) for path in files().keys() - first.keys()}
    assert {"002_look.png", "conversation_2/conversation.json", "conversation_3/conversation.json"} <= new


def test_somebody_talks_and_makes_mistakes(model, image, tmp_path, capsys):
    lines = [
        "/ground 1",
        "\udcff?",
        "What is shown?",
        "/ground \u00b2",
        "/ground 1",
        "/ground 9",
        "/ground a green dragon",
        "/why 1",
    ]
    lines += ["/why 10,10,90,90", "/why 900,900,910,910", "/look 10,10,90,90", "/look 1", "/nothing", "", "/help"]
    lines += [
        "/image nowhere.png",
        f"/image {image}",
        "And now?",
        f"/add {image}",
        "And both?",
        "/reset",
        "/save",
        "/exit",
    ]
    session = Session(model.chat(image), tmp_path / "out", 12, typed([*lines, "never asked"]))
    session.run()
    out = capsys.readouterr().out
    for words in ("nothing was asked yet", "no phrase 9", "not in the text", "lies outside", "no command /nothing"):
        assert f"error: {words}" in out or words in out, words
    assert out.count("error: ") == 8
    assert "nowhere.png" in out
    assert "phrases: 1 " in out
    assert "times the attention of chance" in out
    assert "peak memory" in out
    assert "never asked" not in out
    names = [path.name.split("_")[-1] for path in sorted((tmp_path / "out").glob("*.png"))]
    assert names == ["ground.png", "why.png", "why.png", "hidden.png", "look.png", "look.png"]
    assert (tmp_path / "out/conversation/conversation.json").is_file()
    assert session.chat.replies == []
