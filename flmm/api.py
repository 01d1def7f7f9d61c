"""Grounding in Python: `model = flmm.load(config, checkpoint)`, then `model.ground(image, text, phrases)`."""

from __future__ import annotations

import logging
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from flmm.boxes import object_boxes
from flmm.config import build_model, named_model, sample_settings
from flmm.constants import IGNORE_INDEX
from flmm.datasets.images import ImageSource, as_picture, as_rgb
from flmm.datasets.phrases import Phrases, Span, find_phrases
from flmm.datasets.sample import SampleBuilder
from flmm.grounding import Grounding, masks_and_scores, with_presence
from flmm.head_folder import LICENSE, push_head, save_head
from flmm.models.backbone import Reading
from flmm.models.functional import crop_to_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flmm.chat import Conversation, Reply

# Logits are made at the size of the picture, for all phrases at once: a photo of 50 megapixels would take 200 MB
# per phrase. Larger pictures are grounded at this size and their masks enlarged; SAM itself sees 1024 pixels.
MAX_SIDE = 2048
ATTENTION_SIDE = 256
log = logging.getLogger(__name__)


class GroundingModel:
    """A frozen LMM with its trained head, ready to ground phrases.

    Args:
        model: A FrozenLMM.
        builder: Makes its samples as it was trained to read pictures and texts.
        config: What both were built from.
        checkpoint: Where the head was loaded from.

    Attributes:
        model: The FrozenLMM.
        builder: Makes its samples.
        config: The mmengine Config, if known.
        checkpoint: File of the head, if any.
    """

    def __init__(self, model: Any, builder: SampleBuilder, config: Any = None, checkpoint: Path | None = None):
        self.model = model
        self.builder = builder
        self.config = config
        self.checkpoint = checkpoint
        self._warned: set[str] = set()

    def ground(self, image: ImageSource, text: str, phrases: Phrases | None = None) -> Grounding:
        """Find the phrases of a text in a picture.

        Args:
            image: A file, PIL picture or array (see `flmm.datasets.images.as_picture`).
            text: What is said about the picture.
            phrases: Words of the text, or (start, end) character positions; words alone are one phrase. The whole
                text when not given.

        Raises:
            FileNotFoundError: When there is no such file.
            ValueError: For a file that is no picture, an empty text, a phrase that is not in the text or gives
                no token, phrases that overlap.

        Example:
            >>> found = model.ground("photo.jpg", "a red circle below a blue square", ["a red circle", "a blue square"])
            >>> found.phrases, found.masks.shape
            (['a red circle', 'a blue square'], (2, 64, 96))
        """
        picture, spans = as_picture(image), find_phrases(text, [text] if phrases is None else phrases)
        self.warn_of_unknown(text)
        return self._ground(picture, text, spans, self.builder.ground(bounded(picture), text, spans))

    def warn_of_unknown(self, text: str) -> None:
        """Warn of words that the LMM's tokenizer does not know, once of each, through `logging`."""
        words = [word for word in self.builder.unknown_words(text) if word not in self._warned]
        if words:
            self._warned.update(words)
            log.warning(
                "the LMM does not know %s: it reads %s for each such word, so what it says and finds for them means "
                "nothing",
                ", ".join(words),
                self.builder.tokenizer.unk_token,
            )

    def ground_sample(self, sample: dict[str, Any]) -> Grounding:
        """Finds the phrases of a sample of a data set; its text is what the LMM reads after the prompt."""
        return self._ground(as_rgb(sample["image"]), *self._text(sample), sample)

    def chat(self, pictures: Any, **options: Any) -> Conversation:
        """Begin a conversation with the LMM.

        Args:
            pictures: A picture as in `ground`, or a list of them for an LMM that reads several.
            **options: Of `flmm.Conversation`: system, memory.

        Example:
            >>> chat = model.chat("photo.jpg")
            >>> reply = chat.ask("Which shape is red?")
            >>> reply.ground([reply.text]).draw().save("red.png")
        """
        from flmm.chat import Conversation

        return Conversation(self, pictures, **options)

    def answer(
        self,
        image: ImageSource,
        question: str | None = None,
        max_new_tokens: int = 200,
    ) -> Reply:
        """Let the LMM say something about a picture: a conversation of one question.

        Args:
            image: As in `ground`.
            question: By default the prompt of the config.
            max_new_tokens: Longest answer.

        Returns:
            The answer; `str(reply)` is its text, `reply.ground(phrases)` finds its phrases in the picture, without
            reading anything again.

        Example:
            >>> reply = model.answer("photo.jpg", "Which shape is red?", max_new_tokens=20)
            >>> str(reply) == reply.text
            True
        """
        return self.chat(image).ask(question, max_new_tokens)

    def save_pretrained(
        self,
        folder: str | Path,
        license: str = LICENSE,
        metrics: Mapping[str, Any] | None = None,
        example: Grounding | None = None,
    ) -> Path:
        """Writes the head as a folder that `flmm.load` reads and the hub shows: parameters, config, card, picture.

        Args:
            folder: Made when it does not exist.
            license: Of the head, as the hub names licenses.
            metrics: What was measured, numbers by name; by default what evaluations below work_dirs say of it.
            example: A grounding for the card; by default that of a drawn scene.

        Returns:
            The folder.

        Example:
            >>> folder = model.save_pretrained("mine")  # then flmm.load("mine")
            >>> sorted(file.name for file in folder.iterdir())
            ['README.md', 'config.json', 'example.png', 'head.safetensors']
        """
        return save_head(self, folder, license, metrics, example)

    def push_to_hub(
        self,
        name: str,
        private: bool = False,
        message: str = "",
        license: str = LICENSE,
        metrics: Mapping[str, Any] | None = None,
        example: Grounding | None = None,
    ) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face hub, as one commit.

        Args:
            name: `user/head`; made when it does not exist. `user/head@branch` writes to a branch that exists.
            private: Whether a new repository can be seen by its owner alone.
            message: What the commit says.
            license: As in `save_pretrained`, like the rest.
            metrics: Numbers by name.
            example: A grounding for the card.

        Returns:
            The address of the repository.

        Raises:
            FileNotFoundError: When the hub cannot be reached, or this user may not write there.
            ConnectionError: When the transfer broke.
        """
        return push_head(self, name, private, message, license=license, metrics=metrics, example=example)

    def ground_reading(
        self,
        reading: Reading,
        sample: dict[str, Any],
        picture: Image.Image,
        text: str,
        spans: list[Span],
        token_ids: Tensor | None = None,
    ) -> Grounding:
        """Finds phrases of what the LMM has already read, or said.

        Args:
            reading: What was read of M phrases, in one picture.
            sample: `image` and `meta_data` of the picture, as the LMM saw it.
            picture: The picture itself.
            text: The text of the phrases.
            spans: M pairs (start, end) of its characters.
            token_ids: [T_total] ids of the tokens of the phrases, which tell their presence; they count as present when
                not given.
        """
        with torch.no_grad():
            (output,) = self.model.ground_readings([reading], [sample])
        said = token_ids is not None
        output["presence"] = self.model.presence(reading, token_ids) if said else torch.ones(len(spans))
        return self._grounding(picture, text, spans, output, sample["meta_data"])

    def _text(self, sample: dict[str, Any]) -> tuple[str, list[Span]]:
        """The text of a sample, its phrases as they are and what lies between them decoded; and its spans."""
        read = sample["labels"] != IGNORE_INDEX
        tokens = zip(sample["input_ids"][read].tolist(), sample["mask_ids"][read].tolist(), strict=True)
        text, spans = "", {}
        for phrase, run in groupby(tokens, key=lambda token: token[1]):
            ids = [token for token, _ in run]
            piece = (sample["phrases"][phrase] if phrase >= 0 else self.builder.tokenizer.decode(ids)).strip()
            text += f" {piece}" if text else piece
            spans[phrase] = (len(text) - len(piece), len(text))
        return text, [spans[phrase] for phrase in range(len(sample["phrases"]))]

    def _ground(self, picture: Image.Image, text: str, spans: list[Span], sample: dict[str, Any]) -> Grounding:
        output = self.model(sample, mode="tensor")
        return self._grounding(picture, text, spans, output, sample["meta_data"])

    def _grounding(
        self, picture: Image.Image, text: str, spans: list[Span], output: dict[str, Any], meta_data: dict[str, Any]
    ) -> Grounding:
        size = (picture.height, picture.width)
        logits = output.get("sam_pred_masks", output["pred_masks"])
        masks, sure = masks_and_scores(logits, size)
        present = output["presence"].float().cpu().numpy()
        return Grounding(
            image=picture,
            text=text,
            spans=spans,
            masks=masks.numpy(),
            coarse_masks=masks_and_scores(output["pred_masks"], size)[0].numpy(),
            boxes=object_boxes(masks.numpy()),
            scores=with_presence(sure, present),
            attention=self._merged(output["mask_attentions"], meta_data).numpy(),
            attention_maps=output["mask_attentions"].float().cpu().numpy(),
            logits=logits.float().cpu().numpy(),
            presence=present,
        )

    def _merged(self, maps: Tensor, meta_data: dict[str, Any]) -> Tensor:
        """[M, C, h, w] maps of the LMM's view -> [M, h', w'] over the picture."""
        maps = maps.float().cpu()
        merged = (maps / maps.sum((-2, -1), keepdim=True).clamp(min=1e-12)).mean(1)
        scale = ATTENTION_SIDE / max(merged.shape[-2:])
        merged = F.interpolate(merged[None], scale_factor=scale, mode="bilinear")[0]
        if self.model.backbone.views_include_padding:
            merged = crop_to_picture(merged, meta_data)
        return merged


def load(
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    revision: str | None = None,
) -> GroundingModel:
    """Load a model for grounding.

    Args:
        config: Config file, or a checkpoint that carries its config. By default that of `checkpoint`; without
            both, the embedded tiny model.
        checkpoint: Trained head: a file, a folder that `save_pretrained` wrote, or a name on the hub (`user/head`,
            `hf://user/head@revision`). It must be given for a config that names no `pretrained`.
        device: By default the GPU if there is one, see `usable_device`.
        revision: Branch, tag or commit of a head on the hub.

    Raises:
        FileNotFoundError: When a file does not exist, or the hub has no such head or cannot be reached.
        ConnectionError: When the transfer of a head broke.
        ValueError: When no checkpoint is given, one of another model, or one without config alone.

    Example:
        >>> import flmm
        >>> model = flmm.load()
        CustomLlavaForConditionalGeneration from ...checkpoints/tiny_llava: loaded 130 of 130 tensors, 0 missing, ...
        >>> model.ground("photo.jpg", "a red circle", ["a red circle"]).boxes.shape
        (1, 4)
    """
    device = usable_device(device)
    settings, file = named_model(config, checkpoint, revision)
    model = build_model(settings, file, device)
    return GroundingModel(model, SampleBuilder(**sample_settings(settings)), settings, file)


def usable_device(device: str | torch.device | None) -> torch.device:
    """A device of this machine; by default the GPU if there is one.

    Raises:
        ValueError: When torch does not know it, or it is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        found = torch.device(device or ("cuda" if count else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: use cpu, cuda, or cuda:1 for the second GPU") from error
    if found.type == "cuda" and (found.index or 0) >= count:
        raise ValueError(f"device {found} is not there ({count} GPUs are usable): use cpu, or see `flmm doctor`")
    return found


def bounded(picture: Image.Image, longest: int | None = None) -> Image.Image:
    """The picture, or a copy of at most `longest` pixels, else MAX_SIDE, along its longer side."""
    scale = (longest or MAX_SIDE) / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
