"""Conversations of text and any number of pictures, as DeepSeek-VL reads them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from deepseek_vl.models.image_processing_vlm import VLMImageProcessor
from deepseek_vl.utils.conversation import SYSTEM_PROMPT, Message, format_conversation
from flmm.models.loading import find_folder, where_in


@dataclass
class ChatInputs:
    """What `MultiModalityCausalLM.prepare_inputs_embeds` and `generate` need.

    Attributes:
        sft_format: B prompts as text.
        input_ids: [B, S], padded on the left.
        attention_mask: [B, S].
        pixel_values: [B, N, 3, s, s], N the largest number of pictures in a conversation.
        images_seq_mask: [B, S], True at image tokens.
        images_emb_mask: [B, N, h·w], False for pictures that only fill the batch.
    """

    sft_format: list[str]
    input_ids: Tensor
    attention_mask: Tensor
    pixel_values: Tensor
    images_seq_mask: Tensor
    images_emb_mask: Tensor

    def keys(self) -> list[str]:
        """Names of the entries, so that `**inputs` works."""
        return [field.name for field in fields(self)]

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "ChatInputs":
        """Moves all tensors; `dtype` is for the pictures."""
        tensors = {key: self[key].to(device) for key in self.keys() if key != "sft_format"}
        tensors["pixel_values"] = tensors["pixel_values"].to(dtype=dtype)
        return ChatInputs(self.sft_format, **tensors)


class VLChatProcessor:
    """Tokenizer and image processor of DeepSeek-VL, for conversations.

    Args:
        image_processor: VLMImageProcessor.
        tokenizer: The repository's tokenizer.
        image_tag: What stands for a picture in the text.
        num_image_tokens: Tokens of one picture.
        system_prompt: Put before each conversation; "" for none.
    """

    def __init__(
        self,
        image_processor: VLMImageProcessor,
        tokenizer: Any,
        image_tag: str = "<image_placeholder>",
        num_image_tokens: int = 576,
        system_prompt: str = SYSTEM_PROMPT,
    ):
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.image_tag = image_tag
        self.image_id = tokenizer.convert_tokens_to_ids(image_tag)
        self.num_image_tokens = num_image_tokens
        self.system_prompt = system_prompt

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **kwargs: Any) -> "VLChatProcessor":
        """Reads tokenizer, image processor and `processor_config.json` (if any) of a folder or hub repository."""
        where = where_in(kwargs)
        folder = find_folder(pretrained_model_name_or_path, **where)
        settings = _processor_config(folder) | {key: value for key, value in kwargs.items() if key not in where}
        image_processor = VLMImageProcessor.from_pretrained(folder)
        return cls(image_processor, AutoTokenizer.from_pretrained(folder), **settings)

    def __call__(
        self,
        prompt: str | None = None,
        conversations: Sequence[Message] | Sequence[Sequence[Message]] | None = None,
        images: Sequence[Image.Image] | Sequence[Sequence[Image.Image]] = (),
        force_batchify: bool = True,
    ) -> ChatInputs:
        """Prepares one conversation, or a batch of them.

        Args:
            prompt: Text that is formatted already, in place of `conversations`.
            conversations: Messages {"role", "content"}, the last one the assistant's with empty content; or a list
                of conversations.
            images: Pictures in the order of their tags; a list for each conversation of a batch.
            force_batchify: Accepted for compatibility: the result always is a batch.

        Raises:
            ValueError: When tags and pictures differ in number, or prompt and conversations are both given or absent.
        """
        if (prompt is None) == (conversations is None):
            raise ValueError("give either prompt or conversations")
        if prompt is not None:
            return self._batch([prompt], [list(images)])
        if isinstance(conversations[0], Mapping):
            conversations, images = [conversations], [list(images)]
        texts = [format_conversation(messages, self.system_prompt) for messages in conversations]
        return self._batch(texts, [list(pictures) for pictures in images] or [[] for _ in texts])

    def _batch(self, texts: list[str], images: list[list[Image.Image]]) -> ChatInputs:
        ids = [self._ids(text, len(pictures)) for text, pictures in zip(texts, images, strict=True)]
        length, count = max(map(len, ids)), max(1, *map(len, images))
        pad = self.tokenizer.pad_token_id or 0
        input_ids = torch.tensor([[pad] * (length - len(row)) + row for row in ids])
        attention_mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        side = self.image_processor.image_size
        pixel_values = torch.zeros(len(ids), count, 3, side, side)
        images_emb_mask = torch.zeros(len(ids), count, self.num_image_tokens, dtype=torch.bool)
        for row, pictures in enumerate(images):
            for column, picture in enumerate(pictures):
                pixel_values[row, column] = torch.from_numpy(self.image_processor(picture)["pixel_values"][0])
                images_emb_mask[row, column] = True
        images_seq_mask = (input_ids == self.image_id) & attention_mask.bool()
        return ChatInputs(texts, input_ids, attention_mask, pixel_values, images_seq_mask, images_emb_mask)

    def _ids(self, text: str, num_images: int) -> list[int]:
        """Token ids with each tag repeated once per feature of its picture."""
        ids = self.tokenizer.encode(text)
        if (tags := ids.count(self.image_id)) != num_images:
            raise ValueError(
                f"the conversation has {tags} times {self.image_tag!r} for {num_images} pictures: {text!r}"
            )
        return [i for index in ids for i in [index] * (self.num_image_tokens if index == self.image_id else 1)]


def _processor_config(folder: Path) -> dict[str, Any]:
    file = folder / "processor_config.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    return {key: known[key] for key in ("image_tag", "num_image_tokens") if key in known}
