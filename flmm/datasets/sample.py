"""The one place that builds a sample: what the language model reads, and where the masks lie in its picture.

`PNGDataset`, `RefCOCO2PNG` and the grounding of a user's picture differ only in where a caption and its masks
come from; ids, labels, pixel values and meta data are made here, so training, evaluation and use cannot drift
apart.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from flmm.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX, NO_PHRASE
from flmm.datasets.images import convertible
from flmm.datasets.masks import frame_masks
from flmm.datasets.phrases import Phrases, as_phrases, encode_phrases
from flmm.datasets.prompts import PICTURE, ChatFormat, Turn
from flmm.datasets.words import unknown_words

DEFAULT_PROMPT = "<image>\nWhat is shown in this image?"


def _build(part: Any) -> Any:
    """Build a config dict with `type`; return anything else as it is."""
    if not isinstance(part, Mapping):
        return part
    from xtuner.registry import BUILDER

    return BUILDER.build(part)


class SampleBuilder:
    """Turns a picture, caption ids and masks into a sample.

    Args:
        image_processor: Object or config dict. `preprocess(image)` gives a mapping whose lists hold one entry
            per image (the first is taken; what is not a list is passed on whole). `pixel_values` and
            `meta_datas` are needed, `image_sizes` (height, width) is optional, and every other entry goes
            into the sample under its own name. When it has a method `image_tokens(processed)`, each image
            token of the prompt is replaced by that many, or, where the method returns ids, by these ids.
        tokenizer: Hugging Face tokenizer or config dict.
        prompt_template: Dict whose `INSTRUCTION` holds `{input}`, the place of the prompt; more of it: `ChatFormat`.
        prompt: What the user says, image token included.
        image2tensor: Give array pixel values as tensors. False keeps what the processor made (PIL for MGM).
        add_image_token: Add `image_token` to the tokenizer and write its id as -200 (MGM, HPT).
        image_token: The text that stands for the image in the prompt.

    Attributes:
        format: Writes prompts and conversations.
        prompt_ids: Token ids of the templated prompt, before image tokens are repeated or written as -200.

    Raises:
        ValueError: A part is missing, a template without `{input}`, an image token that is unknown to the
            tokenizer or absent from the prompt.
    """

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        prompt_template: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        image2tensor: bool = True,
        add_image_token: bool = False,
        image_token: str = "<image>",
    ) -> None:
        if image_processor is None or tokenizer is None:
            raise ValueError("image_processor and tokenizer must be given, as objects or config dicts")
        self.image_processor = _build(image_processor)
        self.tokenizer = _build(tokenizer)
        self.image2tensor = image2tensor
        self.add_image_token = add_image_token
        self.image_token = image_token
        replaced = getattr(self.image_processor, "image_token", None) == image_token  # a word may do (Ovis2)
        if (add_image_token or replaced) and image_token not in self.tokenizer.get_vocab():
            self.tokenizer = deepcopy(self.tokenizer)  # the caller's tokenizer stays as it is
            self.tokenizer.add_special_tokens({"additional_special_tokens": [image_token]})
        self.image_token_idx = self._image_token_id()
        prompt = DEFAULT_PROMPT if prompt is None else prompt
        self.format = ChatFormat(prompt_template, prompt, image_token, self.tokenizer)
        self._prompts: dict[tuple[str, str], list[int]] = {}
        self.prompt_ids = self._prompt_around(("", ""))
        if self.image_token_idx not in self.prompt_ids:
            raise ValueError(f"prompt {prompt!r} does not hold the image token {image_token!r}")

    def ground(self, image: Image.Image, text: str, phrases: Phrases) -> dict[str, Any]:
        """A sample without ground truth: M phrases of a text about a picture (errors: `encode_phrases`)."""
        phrases = as_phrases(phrases)
        caption_ids, mask_ids = encode_phrases(self.tokenizer, text, phrases)
        words = [p if isinstance(p, str) else text[slice(*p)] for p in phrases]
        return self.build(image, caption_ids, mask_ids, phrases=words)

    def unknown_words(self, text: str) -> list[str]:
        """List the words of a text that the LMM cannot read; what stands for a picture is none."""
        for picture in (PICTURE, self.image_token):
            text = text.replace(picture, " ")
        return unknown_words(self.tokenizer, text)

    def build(
        self,
        image: Image.Image,
        caption_ids: Sequence[int],
        mask_ids: Sequence[int],
        masks: torch.Tensor | None = None,
        processed: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> dict[str, Any]:
        """Put a sample together.

        Args:
            image: Picture of any PIL mode; the sample keeps it as it is, if `convertible`.
            caption_ids: Token ids after the prompt.
            mask_ids: For each of them -1 or the index of its phrase.
            masks: [M, H, W] ground truth of 0 and 1 in the picture's frame; none when nothing is known.
            processed: What `process` made of the picture, for several samples of one picture.
            extra: Further entries of the sample.

        Returns:
            `input_ids`, `mask_ids`, `labels` [S], `pixel_values`, `image`, `image_sizes`, `meta_data`, the
            processor's other entries, and with masks `masks` [M, h, w] (resized frame), `padded_masks`,
            `gt_masks`.

        Raises:
            ValueError: The caption holds an image token; the processor gives no meta data.
        """
        if self.image_token_idx in caption_ids:
            raise ValueError(f"the text holds the image token {self.image_token!r}: only the prompt may hold it")
        image = convertible(image)
        processed = self.process(image) if processed is None else processed
        prompt_ids = self._with_image_tokens(self._prompt_around, [processed])
        sample: dict[str, Any] = self._text(prompt_ids, list(caption_ids), list(mask_ids))
        if masks is not None:
            sample |= frame_masks(masks, processed["meta_datas"])
        return sample | self._picture(image, processed) | extra

    def converse(
        self,
        pictures: Sequence[tuple[Image.Image, Mapping[str, Any]]],
        turns: Sequence[Turn],
        system: str | None = None,
        caption_ids: Sequence[int] = (),
        mask_ids: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Put a sample together whose prompt is a conversation.

        Args:
            pictures: P pictures with what `process` made of them, in the order in which they are shown.
            turns: What was asked and replied so far; they show P pictures.
            system: System text of the user.
            caption_ids: Token ids of the next reply.
            mask_ids: For each of them -1 or the index of its phrase.

        Returns:
            As `build`; several pictures are in `pictures`, each with the entries of a picture.

        Raises:
            ValueError: Text that holds the image token; what `ChatFormat.ids` refuses.
        """
        prompt_ids = self.format.ids(turns, system)
        expected = self.prompt_ids.count(self.image_token_idx) * len(pictures)
        if prompt_ids.count(self.image_token_idx) != expected or self.image_token_idx in caption_ids:
            raise ValueError(f"a question or reply holds the image token {self.image_token!r}: leave it out")
        written = partial(self.format.ids, turns, system)
        prompt_ids = self._with_image_tokens(written, [processed for _, processed in pictures])
        sample: dict[str, Any] = self._text(prompt_ids, list(caption_ids), list(mask_ids))
        shown = [self._picture(image, processed) for image, processed in pictures]
        sample |= shown[0]
        if len(shown) > 1:
            sample["pictures"] = shown
            if hasattr(self.image_processor, "join"):
                sample |= self.image_processor.join([image for image, _ in pictures])
        return sample

    def process(self, image: Image.Image) -> dict[str, Any]:
        """What the image processor makes of a picture, `pixel_values` as the LMM reads them.

        Raises:
            ValueError: When it gives no pixels or no meta data.
        """
        output = self.image_processor.preprocess(convertible(image))
        absent = [name for name in ("pixel_values", "meta_datas") if name not in output]
        if absent:
            raise ValueError(
                f"{type(self.image_processor).__name__}.preprocess gives no {', '.join(absent)}: use a "
                "processor of flmm.datasets, which says where the picture lies in its padded frame"
            )
        processed = {key: value[0] if isinstance(value, list) else value for key, value in output.items()}
        if self.image2tensor and isinstance(processed["pixel_values"], np.ndarray):
            processed["pixel_values"] = torch.from_numpy(processed["pixel_values"])
        return processed

    def _with_image_tokens(
        self, written: Callable[[tuple[str, str]], list[int]], pictures: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """A prompt with as many image tokens for each picture as the processor lays out.

        Args:
            written: Ids of the prompt, given the text that stands around each picture.
            pictures: What `process` made of them.
        """
        if not hasattr(self.image_processor, "image_tokens"):
            return written(("", ""))
        parts = [self._parted(self.image_processor.image_tokens(processed)) for processed in pictures]
        repeated = self.prompt_ids.count(self.image_token_idx)  # some processors leave that to the prompt (GOT-OCR)
        tokens = iter([layout for layout, _ in parts for _ in range(repeated)])
        ids = written(parts[0][1] if parts else ("", ""))
        return [t for token in ids for t in (next(tokens) if token == self.image_token_idx else [token])]

    def _parted(self, layout: int | Sequence[int]) -> tuple[list[int], tuple[str, str]]:
        """A picture's tokens, and the plain text that the processor writes before and behind them (Gemma 3)."""
        tokens = [self.image_token_idx] * layout if isinstance(layout, int) else list(layout)
        added = self.tokenizer.added_tokens_decoder  # some are text: Gemma 3's runs of newlines
        special = {self.image_token_idx, *(index for index, token in added.items() if token.special)}
        places = [place for place, token in enumerate(tokens) if token in special]
        if not places:
            return tokens, ("", "")
        first, last = places[0], places[-1] + 1
        return tokens[first:last], (self._decoded(tokens[:first]), self._decoded(tokens[last:]))

    def _prompt_around(self, around: tuple[str, str]) -> list[int]:
        """`prompt_ids` with text around the picture: the same for every picture, as a rule."""
        if around not in self._prompts:
            self._prompts[around] = self.format.ids([Turn(self.format.question, pictures=1)], around=around)
        return self._prompts[around]

    def _decoded(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False) if ids else ""

    def _text(self, prompt_ids: list[int], caption_ids: list[int], mask_ids: list[int]) -> dict[str, torch.Tensor]:
        input_ids = torch.tensor(prompt_ids + caption_ids)
        labels = torch.tensor([IGNORE_INDEX] * len(prompt_ids) + caption_ids)
        if self.add_image_token:
            input_ids[input_ids == self.image_token_idx] = IMAGE_TOKEN_INDEX
        mask_ids = [NO_PHRASE] * len(prompt_ids) + mask_ids
        return {"input_ids": input_ids, "mask_ids": torch.tensor(mask_ids), "labels": labels}

    def _picture(self, image: Image.Image, processed: Mapping[str, Any]) -> dict[str, Any]:
        entries = dict(processed)
        return {
            "pixel_values": entries.pop("pixel_values"),
            "meta_data": entries.pop("meta_datas"),
            "image_sizes": torch.as_tensor(entries.pop("image_sizes", (image.height, image.width))),
            "image": image,
            **entries,
        }

    def _image_token_id(self) -> int:
        index = self.tokenizer.convert_tokens_to_ids(self.image_token)
        if index is None or index == self.tokenizer.unk_token_id:
            raise ValueError(
                f"the tokenizer knows no image token {self.image_token!r}: set image_token to the one it "
                "was made with, or add_image_token=True for models that read the id -200"
            )
        return index


class ReadsSamples:
    """Base of the data sets and pipeline steps that make samples.

    Args:
        sample_builder: SampleBuilder or its config; several data sets can share one.
        allow_empty_masks: Accept phrases without any pixel.
        image_processor, tokenizer, prompt_template, prompt, image2tensor, add_image_token, image_token: Arguments of
            `SampleBuilder`, another way to give it.

    Raises:
        ValueError: Neither or both are given.
    """

    def __init__(
        self,
        sample_builder: Any = None,
        allow_empty_masks: bool = False,
        image_processor: Any = None,
        tokenizer: Any = None,
        prompt_template: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        image2tensor: bool | None = None,
        add_image_token: bool | None = None,
        image_token: str | None = None,
    ) -> None:
        given = {
            "image_processor": image_processor,
            "tokenizer": tokenizer,
            "prompt_template": prompt_template,
            "prompt": prompt,
            "image2tensor": image2tensor,
            "add_image_token": add_image_token,
            "image_token": image_token,
        }
        settings = {name: value for name, value in given.items() if value is not None}
        if sample_builder is not None and settings:
            raise ValueError(f"sample_builder and {', '.join(settings)} are given: leave one of them out")
        if sample_builder is None:
            sample_builder = SampleBuilder(**{"image_processor": None, "tokenizer": None, **settings})
        self.builder: SampleBuilder = _build(sample_builder)
        self.allow_empty_masks = allow_empty_masks
