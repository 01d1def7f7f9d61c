"""What a conversation does beyond single replies, with the embedded model."""

import json
import threading

import pytest
import torch
from families import picture
from xtuner.registry import BUILDER

import flmm
from flmm.api import GroundingModel
from flmm.chat.reply import MOST_PHRASES, Reply, decode
from flmm.chat.streaming import StopStrings
from flmm.config import TINY_CONFIG, read_config
from flmm.models.backbone import TooLongError
from flmm.models.reader import kept_bytes


@pytest.fixture(scope="module")
def model():
    return flmm.load(device="cpu")


@pytest.fixture
def chat(model):
    return model.chat(picture((168, 168)))


def test_a_second_question_is_asked_after_the_first_reply(model, chat):
    first = chat.ask()
    second = chat.ask("And what color is it?", max_new_tokens=20)
    assert chat.replies == [first, second]
    ids = second.prompt.sample()["input_ids"].tolist()
    start = len(first.prompt.sample()["input_ids"])
    assert ids[:start] == first.prompt.sample()["input_ids"].tolist()
    assert ids[start : start + len(first.token_ids)] == first.token_ids
    assert ids[start + len(first.token_ids)] == model.builder.tokenizer.eos_token_id
    assert model.answer(picture((168, 168))).token_ids == first.token_ids
    chat.reset()
    assert chat.ask().token_ids == first.token_ids


def test_words_of_a_question_that_the_lmm_does_not_know_are_warned_of(chat, caplog):
    chat.ask("Is there <image> a zebra?", max_new_tokens=1)
    said = [record.getMessage() for record in caplog.records if record.name == "flmm.api"]
    assert [message.partition(": it reads <unk>")[0] for message in said] == ["the LMM does not know zebra"]


def test_pieces_are_the_reply(chat):
    pieces = list(chat.stream())
    assert len(pieces) > 3
    assert "".join(pieces) == chat.replies[-1].text
    again = chat.model.chat(picture((168, 168))).ask()
    assert "".join(pieces) == again.text
    assert chat.replies[0].token_ids == again.token_ids


def test_a_reply_can_be_stopped_and_dropped(chat):
    before = threading.active_count()
    pieces = chat.stream()
    next(pieces)
    chat.stop()
    said = "".join(pieces)
    (reply,) = chat.replies
    assert reply.cut
    assert reply.text.endswith(said)
    assert len(reply.token_ids) < len(chat.model.answer(picture((168, 168))).token_ids)
    assert reply.ground([(0, len(reply.text))]).masks.any()
    pieces = chat.stream("What else?")
    next(pieces)
    pieces.close()
    assert chat.replies == [reply]
    assert threading.active_count() <= before


def test_errors_reach_whoever_listens(chat):
    with pytest.raises(ValueError, match="num_beams"):
        list(chat.stream(num_beams=2))
    assert chat.replies == []


def test_a_conversation_is_saved_and_loaded(model, chat, tmp_path):
    reply = chat.ask()
    grounding = reply.ground()
    chat.ask(max_new_tokens=1)
    for _ in range(2):  # the second replaces the first
        chat.save(tmp_path / "talk")
    loaded = flmm.Conversation.load(tmp_path / "talk", model)
    assert [one.token_ids for one in loaded.replies] == [one.token_ids for one in chat.replies]
    assert [one.cut for one in loaded.replies] == [one.cut for one in chat.replies] == [False, True]
    assert loaded.replies[0].grounded == reply.grounded
    assert len(reply.grounded) == len(grounding.phrases)
    again = loaded.replies[0].ground()
    assert (again.masks != grounding.masks).mean() < 1e-3
    assert loaded.ask("Why?", max_new_tokens=4).token_ids == chat.ask("Why?", max_new_tokens=4).token_ids
    content = json.loads((tmp_path / "talk/conversation.json").read_text())
    content["replies"][0]["text"] = "something else"
    (tmp_path / "talk/conversation.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="load the model that said it"):
        flmm.Conversation.load(tmp_path / "talk", model)
    with pytest.raises(FileNotFoundError, match="no conversation in"):
        flmm.Conversation.load(tmp_path, model)
    with pytest.raises(FileExistsError, match="holds no conversation"):
        chat.save(tmp_path)
    (tmp_path / "talk/notes.txt").write_text("somebody's")
    with pytest.raises(FileExistsError, match="'notes.txt' beside a conversation"):
        chat.save(tmp_path / "talk")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "",
        lambda content: json.dumps(content)[:50],
        lambda content: json.dumps([content]),
        lambda content: json.dumps({key: content[key] for key in ("system", "pictures")}),
        lambda content: json.dumps(content | {"replies": [content["replies"][0] | {"token_ids": [-3]}]}),
        lambda content: json.dumps(content | {"replies": [content["replies"][0] | {"shown": 5}]}),
        lambda content: json.dumps(content | {"looks": [{"reply": 7, "box": [0, 0, 9, 9]}]}),
    ],
)
def test_a_damaged_conversation_is_refused(model, chat, tmp_path, damage):
    chat.recall("What?", "a circle")
    chat.save(tmp_path / "talk")
    file = tmp_path / "talk/conversation.json"
    file.write_text(damage(json.loads(file.read_text())))
    with pytest.raises(ValueError, match=r"conversation\.json is damaged"):
        flmm.Conversation.load(tmp_path / "talk", model)


def test_memory_is_bounded_and_nothing_is_lost(model):
    one = model.chat(picture((168, 168)))
    kept = one.ask()
    needed = model.model.read.kept_bytes(model.model.backbone.tokens(kept.prompt.sample()), len(kept.token_ids))
    assert kept.answer.num_bytes == needed
    bounded = model.chat(picture((168, 168)), memory=needed)
    first, second = (bounded.ask(max_new_tokens=len(kept.token_ids)) for _ in range(2))
    assert first.answer is None
    assert second.answer is not None
    assert first.token_ids == kept.token_ids
    torch.testing.assert_close(first.attended().attention, kept.answer.attention, atol=1e-5, rtol=1e-3)
    small = model.chat(picture((168, 168)), memory=0)
    reply = small.ask()
    assert reply.answer is None
    assert reply.token_ids == kept.token_ids
    assert (reply.ground().masks != kept.ground().masks).mean() < 1e-3
    assert kept_bytes(32, 32, 4096, 24 * 24, 512) == 738_197_504


def test_what_cannot_be_asked_is_refused(model, chat, tmp_path):
    with pytest.raises(ValueError, match="the question is empty"):
        chat.ask("  ")
    chat.ask()
    with pytest.raises(ValueError, match="'<image>' 1 times, but 0 pictures"):
        chat.ask("what is <image>?")
    with pytest.raises(TooLongError, match=r"1 replies and 1 pictures .* `reset\(\)` forgets"):
        chat.ask("What?", max_new_tokens=5000)
    for question, message in ((5, "the question is 5: give a text"), ("\ud800", "holds halves of letters")):
        with pytest.raises(ValueError, match=message):
            chat.ask(question)
    with pytest.raises(ValueError, match="the reply .* halves of letters"):
        chat.recall("What?", "\udcff")
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        chat.ask(max_new_tokens=0)
    with pytest.raises(ValueError, match="return_dict_in_generate asks for another output"):
        chat.ask(return_dict_in_generate=True)
    with pytest.raises(ValueError, match="no SYSTEM text"):
        model.chat(picture(), system="Be brief.")
    with pytest.raises(ValueError, match="needs a picture"):
        model.chat([])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="text.png"):
        model.chat(tmp_path / "text.png")
    assert len(chat.replies) == 1


def test_what_cannot_be_grounded_is_refused(chat):
    reply = chat.ask()
    with pytest.raises(ValueError, match="not in the text"):
        reply.ground(["a green dragon"])
    with pytest.raises(ValueError, match="give a list"):
        reply.ground("a dog")
    with pytest.raises(ValueError, match=f"300 phrases, but at most {MOST_PHRASES}"):
        reply.ground([reply.text] * 300)
    with pytest.raises(ValueError, match="the LMM said nothing to"):
        Reply(reply.prompt, []).ground()
    assert Reply(reply.prompt, []).phrases() == []


def test_each_mention_of_a_phrase_can_be_chosen(model, chat):
    ids = model.builder.tokenizer.encode("the red circle . the sand . the red circle .", add_special_tokens=False)
    reply = Reply(chat.ask().prompt, ids)
    first, _, second = reply.phrases()
    assert first.text == second.text == "the red circle"
    assert first.start < second.start
    assert reply.find([second]) == [second]
    assert reply.find(["the red circle"]) == [first]
    assert reply.ground([second]).spans == [(second.start, second.end)]


def said(chat, text):
    """A reply that was put into the LMM's mouth, with what its words attended to."""
    return Reply(chat._prompt("What?"), chat.model.builder.tokenizer.encode(text, add_special_tokens=False))


def test_phrases_leave_out_what_names_nothing(chat, monkeypatch):
    reply = said(chat, "it is the sky above it .")
    monkeypatch.setattr(Reply, "_found", lambda self: [(0, 2), (6, 13), (20, 22)])
    assert [phrase.text for phrase in reply.phrases()] == ["the sky"]
    monkeypatch.setattr(Reply, "_found", lambda self: [])
    assert [phrase.text for phrase in said(chat, "red").phrases()] == ["red"]
    nothing = said(chat, "yes")
    assert nothing.phrases() == []
    with pytest.raises(ValueError, match="the reply 'yes' names nothing by itself"):
        nothing.ground()
    assert nothing.ground(["yes"]).masks.shape == (1, 168, 168)


def test_presence_of_what_was_said_is_full_and_of_other_words_is_not(chat):
    reply = chat.ask()
    assert reply.ground().presence == pytest.approx(1, abs=1e-3)
    kind, *others = (word for word in ("star", "cross", "circle", "square") if word not in reply.text)
    absent = said(chat, f"a small purple {kind} in the sea .").ground([(0, 15 + len(kind))])
    assert absent.presence[0] < 0.1
    assert absent.scores[0] < 0.6
    assert others


def test_pictures_that_are_drawn_upon_later_do_not_change_the_conversation(model):
    image = picture((168, 168))
    chat = model.chat(image)
    before = chat.ask().ground()
    image.paste((0, 0, 0), (0, 0, 168, 168))
    after = chat.replies[0].ground()
    assert (after.masks == before.masks).all()
    assert after.image.getpixel((84, 84)) != (0, 0, 0)


def test_conversations_of_one_model_in_several_threads(model, chat):
    """One keeps what it attends to, one keeps nothing, one only reads."""
    reply = chat.ask()
    expected = reply.token_ids, reply.occlude((0, 0, 50, 50)).change
    found = {}

    def talk(number, memory):
        beside = model.chat(picture((168, 168)), memory=memory)
        own = beside.ask()
        found[number] = own.token_ids, reply.occlude((0, 0, 50, 50)).change

    threads = [threading.Thread(target=talk, args=(number, memory)) for number, memory in enumerate((1 << 30, 0, 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number][0] for number in range(3)] == [expected[0]] * 3
    for number in range(3):
        torch.testing.assert_close(found[number][1], expected[1])


def test_a_reply_to_a_conversation_that_went_on_is_dropped(chat):
    pieces = chat.stream()
    next(pieces)
    second = chat.ask("What?", 3)
    with pytest.raises(ValueError, match="the conversation changed while"):
        list(pieces)
    late = chat.stream()
    chat.reset()
    with pytest.raises(ValueError, match="ask again"):
        next(late)
    assert chat.replies == []
    assert second.prompt.turns[-1].pictures == 1


def test_stop_strings_end_a_reply(chat):
    whole = chat.ask()
    second = whole.tokens[1].strip()
    chat.reset()
    reply = chat.ask(stop_strings=[second])
    assert reply.token_ids == whole.token_ids[:1]
    assert not reply.cut
    chat.reset()
    assert chat.ask(max_new_tokens=3, stop_strings="a string that is never said").cut


def test_a_stop_string_may_end_inside_of_a_token():
    words = {1: "stop", 2: "st", 3: "opera", 4: " sto"}

    def ends(*ids, strings=("stop",)):
        found = StopStrings(lambda some: "".join(words[one] for one in some), strings)
        return bool(found(torch.tensor([ids]), None)) and found.found

    assert ends(1)
    assert ends(4, 3) is False
    assert ends(4, 2, 3)
    assert not ends(1, 2)  # it was said before
    assert not ends(1, strings=())


class Bytes:
    """A tokenizer with a token per byte, which writes half a letter as a strange one."""

    def decode(self, ids, skip_special_tokens):
        return bytes(ids).decode("utf-8", errors="replace")


def test_letters_of_several_tokens_have_their_characters():
    text = "猫 und Äpfel"
    found, spans = decode(Bytes(), list(text.encode()))
    assert found == text
    assert spans[0] == spans[1] == spans[2] == (0, 1)
    assert spans[-1] == (len(text) - 1, len(text))


def test_phrases_of_a_head_with_a_keyword_selector(model):
    """Words whose tokens score high, cut where a phrase begins."""
    settings = read_config(TINY_CONFIG)
    settings.model.keywords = {}
    torch.manual_seed(0)
    head = BUILDER.build(settings.model).eval()
    reply = GroundingModel(head, model.builder).answer(picture((168, 168)))
    assert reply.text == model.answer(picture((168, 168))).text
    hidden = reply.attended().hidden
    targets = torch.zeros(hidden.shape[1], 2)
    targets[2:4, 0] = targets[3, 1] = 1
    optimizer = torch.optim.Adam(head.keywords.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(head.keywords(hidden), targets).backward()
        optimizer.step()
    words = [reply.tokens[index].strip() for index in (2, 3)]
    assert [phrase.text for phrase in reply.phrases()] == words
    with torch.no_grad():
        head.keywords.classifier.bias[0] = -99
    assert [phrase.text for phrase in reply.phrases()] == [reply.text]
