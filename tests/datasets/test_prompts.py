"""How conversations are written."""

import pytest
from golden_cases import GOLDEN
from transformers import AutoTokenizer

from flmm.datasets.prompts import ChatFormat, Turn, split_prompt

TEMPLATE = {"INSTRUCTION": "<SYS> USER: {input} BOT:", "FOLLOW_UP": "USER: {input} BOT:", "SEP": "\n"}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(GOLDEN / "qwen25vl_a/backbone")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<image>\nDescribe.", ("<image>\n", "Describe.")),
        ("<|vision_start|><image><|vision_end|>Describe.", ("<|vision_start|><image><|vision_end|>", "Describe.")),
        ("<image><image><image>Describe.", ("<image><image><image>", "Describe.")),
        ("See <image> <|vision_end|>\n", ("See <image> <|vision_end|>\n", "")),
        ("Describe.", ("", "Describe.")),
    ],
)
def test_what_surrounds_a_picture_stays_with_it(tokenizer, prompt, expected):
    assert split_prompt(prompt, "<image>", tokenizer) == expected


def text(tokenizer, turns, **more):
    chat = ChatFormat(TEMPLATE | more.pop("template", {}), "<image>\nWhat?", "<image>", tokenizer)
    return tokenizer.decode(chat.ids(turns, **more))


def test_turns_follow_one_another(tokenizer):
    reply = tokenizer.encode("a cat", add_special_tokens=False)
    turns = [Turn("Who?", 1, reply), Turn("Why?")]
    end = tokenizer.eos_token
    assert text(tokenizer, turns) == f"<SYS> USER: <image>\nWho? BOT:a cat{end}\nUSER: Why? BOT:"
    with_suffix = text(tokenizer, turns, template={"SUFFIX": "<end>"})
    assert with_suffix == "<SYS> USER: <image>\nWho? BOT:a cat<end>\nUSER: Why? BOT:"


def test_a_system_text_stands_where_the_template_says(tokenizer):
    turns = [Turn("Who?", 1)]
    found = text(tokenizer, turns, template={"SYSTEM": "S: {system}\n"}, system="Be {brief}.")
    assert found == "S: Be {brief}.\nUSER: <image>\nWho? BOT:"
    with pytest.raises(ValueError, match="no SYSTEM text"):
        text(tokenizer, turns, system="Be brief.")


def test_pictures_stand_in_front_or_where_the_question_says(tokenizer):
    assert "USER: <image>\n<image>\nWho?" in text(tokenizer, [Turn("Who?", 2)])
    marked = [Turn("whole <image>, part <image>: who?", 2)]
    assert "USER: whole <image>\n, part <image>\n: who?" in text(tokenizer, marked)
    with pytest.raises(ValueError, match="holds '<image>' 1 times, but 2 pictures"):
        text(tokenizer, [Turn("<image> who?", 2)])
