"""Asks config, processor and chat template of an image-text model what a config of ours has to say."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from flmm.models.frozen_hf import HFBackbone
from flmm.models.grid_search import Found, find_rule, image_texts
from flmm.models.grids import SquareGrid
from flmm.models.loading import named_files

QUESTION, REPLY, SYSTEM = "WHAT-IS-ASKED", "WHAT-IS-REPLIED", "WHAT-RULES"
PLAIN = {"INSTRUCTION": "USER: {input}\nASSISTANT:"}


@dataclass
class Asked:
    """What a repository says.

    Attributes:
        search: Which grid rule fits.
        image_token: What stands for a picture in a prompt.
        picture: The same with what its chat template puts around it.
        template: As `prompt_template`.
        layers: Layers with softmax attention.
        heads: Query heads of a layer.
        unknown: What could not be found out.
    """

    search: Found
    image_token: str
    picture: str
    template: dict[str, Any]
    layers: int
    heads: int
    unknown: list[str] = field(default_factory=list)

    @property
    def views(self) -> int:
        """V."""
        return len(self.search.views)


def asked(repository: str, image_token: str | None = None) -> Asked:
    """Asks a repository; of its weights nothing is read.

    Raises:
        FileNotFoundError: When a file of it is missing.
        ValueError: When the processor names no image token, or the model cannot be observed.
    """
    with named_files(repository):
        config = AutoConfig.from_pretrained(repository)
        processor = AutoProcessor.from_pretrained(repository)
    token = image_token or next(iter(image_texts(processor)), None)
    if token is None:
        raise ValueError(f"{type(processor).__name__} names no image token: set --image-token")
    unknown: list[str] = []
    picture, template = conversation(processor, token, unknown)
    shape = HFBackbone(meta_model(config), SquareGrid())
    settings = {"tokenizer": processor.tokenizer, "prompt": picture + "Describe.", "prompt_template": template}
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(
        shallow(AutoConfig.from_pretrained(repository)), dtype=torch.float32
    )
    search = find_rule(model, processor, token, settings)
    unknown.append("whether the LMM was trained on several pictures: then set SEVERAL_PICTURES=True")
    unknown.append("how many pixels it reads best: what the processor says is used; set `call` for another size")
    return Asked(search, token, picture, template, len(shape.attending), shape.num_heads, unknown)


def meta_model(config: Any) -> Any:
    """The whole model without weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def shallow(config: Any) -> Any:
    """The config with the first layers of the decoder only: embeddings of a picture are made before them."""
    text = config.get_text_config()
    depth, kept = text.num_hidden_layers, min(text.num_hidden_layers, 4)
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:kept])
    text.num_hidden_layers = kept
    return config


def conversation(processor: Any, image_token: str, unknown: list[str]) -> tuple[str, dict[str, Any]]:
    """What stands for a picture, and the `prompt_template`, as the chat template writes them.

    Args:
        processor: The processor, with a chat template.
        image_token: What stands for a picture.
        unknown: Gets a line where the chat template does not say.
    """
    try:
        shown = rendered(processor, [user({"type": "image"}, text(QUESTION))])
        plain = rendered(processor, [user(text(QUESTION))])
    except Exception as error:  # noqa: BLE001 -- a chat template is a program of the repository
        unknown.append(f"how it wants to be asked ({type(error).__name__} in its chat template): set prompt_template")
        return image_token, dict(PLAIN)
    before, _, behind = plain.partition(QUESTION)
    picture = shown.partition(QUESTION)[0].removeprefix(before)
    if image_token not in picture:
        unknown.append(f"what stands around a picture: the chat template writes {picture!r}, without {image_token!r}")
        picture = image_token
    template: dict[str, Any] = {"INSTRUCTION": without_start(processor.tokenizer, before) + "{input}" + behind}
    ends(processor, template, behind, unknown)
    return picture, template


def ends(processor: Any, template: dict[str, Any], behind: str, unknown: list[str]) -> None:
    """Adds SYSTEM, SUFFIX and SEP, where the chat template tells them apart."""
    turns = [user(text(QUESTION)), {"role": "assistant", "content": [text(REPLY)]}, user(text(QUESTION))]
    try:
        told = rendered(processor, turns)
        ruled = rendered(processor, [{"role": "system", "content": [text(SYSTEM)]}, turns[0]])
    except Exception as error:  # noqa: BLE001
        unknown.append(f"how later turns and a system text are written ({type(error).__name__} in its chat template)")
        return
    after = told.partition(REPLY)[2].rpartition(QUESTION)[0]  # end of the reply, and the start of the next question
    start = template["INSTRUCTION"].partition("{input}")[0]
    if after.endswith(start) and start:
        after = after.removesuffix(start)
        ended = after.rstrip()
        template |= {"SUFFIX": ended, "SEP": after[len(ended) :]} if ended else {}
    else:
        unknown.append("how a reply ends: set SUFFIX and SEP")
    before = without_start(processor.tokenizer, ruled.partition(QUESTION)[0])
    if SYSTEM in before and before.endswith(start):
        template["SYSTEM"] = before.removesuffix(start).replace(SYSTEM, "{system}")


def rendered(processor: Any, messages: list[dict[str, Any]]) -> str:
    """A conversation as text."""
    return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def user(*content: dict[str, str]) -> dict[str, Any]:
    """A question."""
    return {"role": "user", "content": list(content)}


def text(words: str) -> dict[str, str]:
    """A piece of text."""
    return {"type": "text", "text": words}


def without_start(tokenizer: Any, words: str) -> str:
    """Text without the token that the tokenizer itself puts in front."""
    start = tokenizer.bos_token
    adds = bool(start) and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]
    return words.removeprefix(start) if adds else words
