"""How an LMM wants a conversation to be written; the one place that knows what a prompt puts around a picture."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PICTURE = "<image>"  # in a question: where a picture stands, whatever image token the LMM has


@dataclass(frozen=True)
class Turn:
    """A question, and what the LMM replied to it.

    Attributes:
        question: The question.
        pictures: How many pictures are shown with it.
        reply: Token ids of the reply; None for the question that waits for one.
    """

    question: str
    pictures: int = 0
    reply: Sequence[int] | None = None


def sayable(text: Any, name: str) -> str:
    """Return a text that a tokenizer takes; ValueError, which begins with its name, for anything else."""
    if not isinstance(text, str):
        raise ValueError(f"{name} is {text!r}: give a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} {text!r} holds halves of letters ({error.reason}): write it in UTF-8") from error
    return text


class ChatFormat:
    """Write conversations as a config's `prompt_template` and `prompt` say.

    Args:
        template: `INSTRUCTION` holds `{input}`, the place of a question. Optional: `FOLLOW_UP`, the instruction of
            later turns, and of the first one below a system text; `SYSTEM` with `{system}`; `SUFFIX`, the end of a
            reply (default: the tokenizer's end token); `SEP`, between two turns; `SEVERAL_PICTURES`, whether the LMM
            was trained on several pictures.
        prompt: What the user says about a picture, image token included.
        image_token: The text that stands for a picture.
        tokenizer: Hugging Face tokenizer.

    Attributes:
        picture: What stands for a picture in the text.
        question: What `prompt` asks about it.
        several: Whether the LMM reads several pictures.

    Raises:
        ValueError: For a template without `{input}`.
    """

    def __init__(self, template: Mapping[str, Any] | None, prompt: str, image_token: str, tokenizer: Any):
        self.template = dict(template or {})
        if "{input}" not in self.template.get("INSTRUCTION", ""):
            raise ValueError(f"prompt_template's INSTRUCTION must hold '{{input}}': {template!r}")
        self.tokenizer = tokenizer
        self.image_token = image_token
        self.picture, self.question = split_prompt(prompt, image_token, tokenizer)
        self.several = bool(self.template.get("SEVERAL_PICTURES", False))

    def ids(self, turns: Sequence[Turn], system: str | None = None, around: tuple[str, str] = ("", "")) -> list[int]:
        """Token ids of a conversation, with the image tokens of `prompt` for each picture.

        Args:
            turns: All have a reply but the last.
            system: System text of the user.
            around: Text that the processor writes before and behind each picture; words next to it may join it in a
                token.

        Raises:
            ValueError: For a system text without a place, or a question that misplaces its pictures.
        """
        ids: list[int] = []
        for index, turn in enumerate(turns):
            asked = self.asked(turn).replace(self.image_token, self.image_token.join(around))
            ids += self._encode(self._instruction(index, system).replace("{input}", asked), first=index == 0)
            if turn.reply is not None:
                ids += [*turn.reply, *self._end()]
            if index + 1 < len(turns):
                ids += self._encode(self.template.get("SEP", ""))
        return ids

    def asked(self, turn: Turn) -> str:
        """Return the text of a question with its pictures: where it holds PICTURE, else in front."""
        count = turn.question.count(PICTURE)
        if count == 0:
            return self.picture * turn.pictures + turn.question
        if count != turn.pictures:
            raise ValueError(
                f"the question holds {PICTURE!r} {count} times, but {turn.pictures} pictures are shown with it: write "
                "it once for each of them, or leave it out"
            )
        return turn.question.replace(PICTURE, self.picture)

    def _instruction(self, index: int, system: str | None) -> str:
        later = self.template.get("FOLLOW_UP", self.template["INSTRUCTION"])
        if index > 0:
            return later
        if system is None:
            return self.template["INSTRUCTION"]
        if "{system}" not in self.template.get("SYSTEM", ""):
            raise ValueError(
                "the prompt_template of this LMM has no SYSTEM text with '{system}': leave `system` out, or put what "
                "it says into the question"
            )
        return self.template["SYSTEM"].replace("{system}", system) + later

    def _end(self) -> list[int]:
        if suffix := self.template.get("SUFFIX"):
            return self._encode(suffix)
        end = self.tokenizer.eos_token_id
        return [] if end is None else [end]

    def _encode(self, text: str, first: bool = False) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=first) if text else []


def split_prompt(prompt: str, image_token: str, tokenizer: Any) -> tuple[str, str]:
    """Cut a prompt where the question begins: what is said about the picture, and what surrounds the picture.

    A picture is surrounded by all that comes before it, and by the special tokens and white space behind it, such as
    Qwen's `<|vision_end|>`.

    Args:
        prompt: What the user says, image token included.
        image_token: The text that stands for a picture; it may be repeated.
        tokenizer: Hugging Face tokenizer.

    Returns:
        The picture with what surrounds it (empty without an image token), and the question.
    """
    before, found, after = prompt.rpartition(image_token)
    if not found:
        return "", prompt
    special = [re.escape(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    behind = re.match("(?:" + "|".join([*special, r"\s"]) + ")*", after)
    length = behind.end() if behind else 0
    return before + found + after[:length], after[length:]
