"""A conversation as a folder: `conversation.json`, its pictures, and masks as run lengths."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flmm.api import GroundingModel
from flmm.chat.look import Look, second_prompt
from flmm.chat.prompt import Prompt
from flmm.chat.reply import Grounded, Phrase, Reply
from flmm.datasets.prompts import Turn
from flmm.evaluation.records import part_name, publish

if TYPE_CHECKING:
    from flmm.chat.conversation import Conversation

FILE = "conversation.json"
OURS = re.compile(rf"{re.escape(FILE)}|picture_\d+\.png")


def save(conversation: Conversation, folder: str | Path) -> None:
    """Write a conversation; it is there completely or not at all.

    Args:
        conversation: The conversation.
        folder: Where it goes; an older conversation there is replaced.

    Raises:
        FileExistsError: When the folder holds something else, which would be lost.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not (folder / FILE).is_file():
        raise FileExistsError(f"{folder} exists and holds no conversation: choose another name")
    if foreign := sorted(name.name for name in folder.glob("*") if not OURS.fullmatch(name.name)):
        raise FileExistsError(f"{folder} holds {foreign[0]!r} beside a conversation: choose another name")
    part = part_name(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = [f"picture_{index}.png" for index in range(len(conversation.pictures))]
    for name, picture in zip(names, conversation.pictures, strict=True):
        picture.image.save(part / name)
    replies = [written(reply) for reply in conversation.replies]
    looks = [
        {"reply": index, "box": look.box, "picture": look.picture} | written(look.second)
        for look in conversation.looks
        for index, reply in enumerate(conversation.replies)
        if reply is look.first
    ]
    content = {"system": conversation.system, "pictures": names, "replies": replies, "looks": looks}
    (part / FILE).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    publish(part, folder)


def written(reply: Reply) -> dict[str, Any]:
    """Return a reply as JSON."""
    turn = reply.prompt.turns[-1]
    return {
        "question": turn.question,
        "shown": turn.pictures,
        "text": reply.text,
        "token_ids": reply.token_ids,
        "cut": reply.cut,
        "grounded": [asdict(one) | {"phrase": one.phrase._asdict()} for one in reply.grounded],
    }


def load(folder: str | Path, model: GroundingModel) -> Conversation:
    """See `Conversation.load`."""
    file = Path(folder, FILE)
    if not file.is_file():
        raise FileNotFoundError(f"no conversation in {folder}: {file} is missing; `save` writes it")
    try:
        return from_content(json.loads(file.read_text(encoding="utf-8")), file, model)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): `save` writes it as a whole, so take a copy of it") from error


def from_content(content: dict[str, Any], file: Path, model: GroundingModel) -> Conversation:
    """Return the conversation that a file describes; KeyError, TypeError and the like when it describes none."""
    from flmm.chat.conversation import Conversation

    conversation = Conversation(model, [file.parent / name for name in content["pictures"]], content["system"])
    turns: list[Turn] = []
    for record in content["replies"]:
        turns.append(Turn(record["question"], record["shown"]))
        if not 0 <= turns[-1].pictures <= len(conversation.pictures) - sum(turn.pictures for turn in turns[:-1]):
            raise IndexError(f"{record['question']!r} shows {record['shown']} pictures, which are not there")
        shown = tuple(conversation.pictures[: sum(turn.pictures for turn in turns)])
        conversation.replies.append(read(Prompt(model, shown, tuple(turns), content["system"]), record, file))
        turns[-1] = Turn(record["question"], record["shown"], record["token_ids"])
    for record in content["looks"]:
        first, box = conversation.replies[record["reply"]], tuple(record["box"])
        crop = first.shown(record["picture"]).image.crop(box)
        second = read(second_prompt(first.prompt, crop), record, file)
        conversation.looks.append(Look(box, record["picture"], first, second))
    return conversation


def read(prompt: Prompt, record: dict[str, Any], file: Path) -> Reply:
    """Return a reply from JSON; ValueError when its tokens mean something else to this LMM."""
    reply = Reply(prompt, record["token_ids"], cut=record["cut"])
    if reply.text != record["text"]:
        raise ValueError(
            f"{file}: the tokens of {record['text']!r} mean {reply.text!r} to this LMM: load the model that said it"
        )
    reply.grounded += [Grounded(**one | {"phrase": Phrase(**one["phrase"])}) for one in record["grounded"]]
    return reply
