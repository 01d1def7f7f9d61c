"""The prompt of `flmm chat`: questions, and commands that begin with a slash."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path
from typing import Any

from PIL import Image

from flmm.chat import Conversation, Reply
from flmm.cli.chat import grounded_lines
from flmm.cost import measured

FAILURES = (ValueError, TypeError, LookupError, OSError, RuntimeError, MemoryError)  # none ends the conversation


class Session:
    """Reads questions and commands until the end.

    Args:
        chat: The conversation.
        out: Folder for pictures and saved conversations.
        max_new_tokens: Longest reply.
        read: Gives the next line, or raises EOFError; by default what is typed.
    """

    def __init__(self, chat: Conversation, out: Path, max_new_tokens: int = 200, read: Callable[[str], str] = input):
        self.chat, self.out, self.max_new_tokens, self.read = chat, out, max_new_tokens, read
        self.saved: Path | None = None  # where this conversation is
        self.commands: dict[str, Callable[[str], Any]] = {
            "ground": self.ground,
            "why": self.why,
            "look": self.look,
            "image": self.image,
            "add": self.add,
            "reset": self.reset,
            "save": self.save,
            "help": self.help,
        }

    def run(self) -> None:
        """Asks for lines until /exit or the end of the input."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  arrow keys and history
        print("Ask about the picture; /help lists the commands.")
        while True:
            try:
                line = self.read("> ").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line.split()[:1] == ["/exit"]:
                return
            if line:
                self.step(line)

    def step(self, line: str) -> None:
        """Answers one line; says what is wrong with it."""
        try:
            if not line.startswith("/"):
                self.ask(line)
                return
            name, _, rest = line[1:].partition(" ")
            if name not in self.commands:
                raise ValueError(
                    f"no command /{name}; there are: {', '.join(f'/{one}' for one in self.commands)}, /exit"
                )
            self.commands[name](rest.strip())
        except FAILURES as error:
            print(f"error: {error}")
        except KeyboardInterrupt:
            print("\n(stopped; what was not finished is dropped)")

    def ask(self, question: str) -> None:
        """Asks the LMM, prints its reply while it speaks, and numbers the phrases."""
        with measured() as cost:
            for piece in self.chat.stream(question, self.max_new_tokens):
                print(piece, end="", flush=True)
        reply = self.chat.replies[-1]
        print(f"{' ...' * reply.cut}\n({cost})")
        if phrases := reply.phrases():
            print("phrases: " + "   ".join(f"{number} {one.text}" for number, one in enumerate(phrases, 1)))

    def ground(self, rest: str) -> None:
        """/ground N [N ...], or words of the reply: masks of phrases; without either, of all phrases."""
        reply = self.last()
        before = len(reply.grounded)
        grounding = reply.ground(self.chosen(rest) if rest else None)
        for line in grounded_lines(reply)[before:]:
            print(line)
        self.show(grounding.draw(), "ground")

    def why(self, rest: str) -> None:
        """/why N or words: where a phrase looked. /why x0,y0,x1,y1: which words looked there, which depend on it."""
        reply = self.last()
        if (box := box_of(rest)) is None:
            (phrase,) = self.chosen(rest)[:1] or [None]
            heatmap = reply.token_to_region(phrase)
            print(f"{heatmap.text}: up to {float(heatmap.lift.max()):.1f} times the attention of chance")
            self.show(heatmap.draw(), "why")
            return
        found, hidden = reply.region_to_token(box), reply.occlude(box)
        for one in found.ranked("phrases")[:5]:
            print(f"{one.lift:5.1f} x chance, z {one.z:+.1f}: {one.phrase.text}")
        least = int(hidden.change.argmin())
        word, change = hidden.tokens[least].text.strip(), float(hidden.change[least])
        print(f"without the region the log-probability of {word!r} changes by {change:+.2f}")
        self.show(found.draw(), "why")
        self.show(hidden.draw(), "hidden")

    def look(self, rest: str) -> None:
        """/look N, words or x0,y0,x1,y1: asks again with a crop of that region."""
        box = box_of(rest)
        phrase = None if box else (self.chosen(rest) or [None])[0]
        with measured() as cost:
            look = self.chat.look(box, phrase, max_new_tokens=self.max_new_tokens)
        print(f"before: {look.first}\nagain:  {look.second}\n({cost})")
        self.show(look.crop, "look")

    def image(self, rest: str) -> None:
        """/image PATH: begins a conversation about another picture."""
        self.chat = Conversation(self.chat.model, path_of(rest), self.chat.system, self.chat.memory)
        self.saved = None
        print(f"talking about {rest}")

    def add(self, rest: str) -> None:
        """/add PATH: shows one more picture with the next question."""
        self.chat.add(path_of(rest))
        print(f"{len(self.chat.pictures)} pictures")

    def reset(self, _: str) -> None:
        """/reset: forgets what was said; the pictures stay."""
        self.chat.reset()
        self.saved = None
        print("forgotten")

    def save(self, rest: str) -> None:
        """/save [FOLDER]: writes the conversation; once more into the same folder as it grows."""
        names = chain(["conversation"], (f"conversation_{number}" for number in count(2)))
        free = (self.out / name for name in names if not (self.out / name).exists())
        folder = path_of(rest) if rest else self.saved or next(free)
        if folder.exists() and folder != self.saved:
            raise FileExistsError(f"{folder} exists: name another folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.chat.save(folder)
        self.saved = folder
        print(f"saved in {folder}")

    def help(self, _: str) -> None:
        """/help: this list."""
        for command in self.commands.values():
            print(command.__doc__)
        print("/exit: ends the conversation.")

    def last(self) -> Reply:
        """The last reply; ValueError when there is none."""
        if not self.chat.replies:
            raise ValueError("nothing was asked yet: type a question first")
        return self.chat.replies[-1]

    def chosen(self, rest: str) -> list[Any]:
        """Phrases by their numbers, or words."""
        phrases = self.last().phrases()
        numbers = rest.replace(",", " ").split()
        if not numbers or not all(number.isdecimal() for number in numbers):
            return [rest] if rest else []
        if wrong := [number for number in numbers if not 1 <= int(number) <= len(phrases)]:
            raise ValueError(f"no phrase {wrong[0]}: the reply has {len(phrases)}")
        return [phrases[int(number) - 1] for number in numbers]

    def show(self, picture: Image.Image, name: str) -> None:
        """Writes a picture under the next number; those of earlier sessions stay."""
        self.out.mkdir(parents=True, exist_ok=True)
        numbers = (file.name.partition("_")[0] for file in self.out.glob("*_*.png"))
        last = max((int(number) for number in numbers if number.isdecimal()), default=0)
        path = self.out / f"{last + 1:03d}_{name}.png"
        picture.save(path)
        print(path)


def box_of(text: str) -> tuple[float, ...] | None:
    """x0,y0,x1,y1 of a text; None when it is something else."""
    parts = text.split(",")
    try:
        return tuple(float(part) for part in parts) if len(parts) == 4 else None
    except ValueError:
        return None


def path_of(text: str) -> Path:
    """A picture's path; ValueError when none is given."""
    if not text:
        raise ValueError("which picture? give its path")
    return Path(text).expanduser()
