"""How a conversation is written for MGM: the templates its language models were tuned with."""

from dataclasses import dataclass, field


@dataclass
class Conversation:
    """A conversation so far, user and assistant in turn.

    Attributes:
        system: What opens the text.
        roles: Names of user and assistant.
        opening: Opens a turn, with the role in place of {}.
        ends: What closes a turn of the user, and of the assistant.
        messages: Messages so far; the assistant's turn is open when their number is odd.
    """

    system: str
    roles: tuple[str, str]
    opening: str
    ends: tuple[str, str]
    messages: list[str] = field(default_factory=list)

    def append(self, message: str) -> None:
        """Adds a message of whoever's turn it is."""
        self.messages.append(message)

    def get_prompt(self) -> str:
        """The text so far, ready for the assistant to continue when it is its turn."""
        text = self.system
        for i, message in enumerate(self.messages):
            text += self.opening.format(self.roles[i % 2]) + message + self.ends[i % 2]
        answering = len(self.messages) % 2 == 1
        return text + (self.opening.format(self.roles[1]).rstrip(" ") if answering else "")

    def copy(self) -> "Conversation":
        """A conversation that goes on independently."""
        return Conversation(self.system, self.roles, self.opening, self.ends, list(self.messages))


conv_templates = {
    "vicuna_v1": Conversation(
        system="A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. ",
        roles=("USER", "ASSISTANT"),
        opening="{}: ",
        ends=(" ", "</s>"),
    ),
    "gemma": Conversation(
        system="",
        roles=("user", "model"),
        opening="<start_of_turn>{}\n",
        ends=("<end_of_turn>\n", "<end_of_turn>\n<eos>"),
    ),
}
