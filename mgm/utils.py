"""Talking with MGM."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from mgm.constants import DEFAULT_IMAGE_TOKEN
from mgm.conversation import Conversation, conv_templates
from mgm.mm_utils import tokenizer_image_token

TEMPLATES = {"mgm": "vicuna_v1", "mgm_gemma": "gemma"}


def start_conversation(model: Any) -> Conversation:
    """An empty conversation in the template of the model's language model."""
    return conv_templates[TEMPLATES[model.config.model_type]].copy()


def number_images(prompt: str) -> str:
    """Names the images `Image 1:`, `Image 2:`, ... when there are several, as MGM was used by its authors."""
    first, *others = prompt.split(DEFAULT_IMAGE_TOKEN)
    if len(others) < 2:
        return prompt
    named = [f"Image {i}:{DEFAULT_IMAGE_TOKEN}{text}" for i, text in enumerate(others, start=1)]
    return first + "".join(named)


def chat(
    model: Any,
    tokenizer: Any,
    conversation: Conversation,
    question: str,
    images: Sequence[Image.Image] = (),
    **generation: Any,
) -> str:
    """Asks, and adds question and answer to the conversation.

    Args:
        model: MGM.
        tokenizer: Its tokenizer.
        conversation: From `start_conversation`, or further on.
        question: Of the user; `<image>` lines are put before it for pictures that are new in this turn.
        images: All pictures of the conversation, in order.
        **generation: Of `generate`, e.g. `max_new_tokens`.

    Returns:
        The answer.
    """
    shown = sum(message.count(DEFAULT_IMAGE_TOKEN) for message in conversation.messages)
    new = len(images) - shown - question.count(DEFAULT_IMAGE_TOKEN)
    conversation.append(f"{DEFAULT_IMAGE_TOKEN}\n" * new + question)
    prompt = number_images(conversation.get_prompt())
    input_ids = tokenizer_image_token(prompt, tokenizer).to(model.device)
    pixels = model.process_images(list(images)) if images else (None, None)
    with torch.inference_mode():
        output = model.generate(input_ids, *pixels, eos_token_id=tokenizer.eos_token_id, **generation)
    answer = tokenizer.decode(output[0], skip_special_tokens=True).strip()
    conversation.append(answer)
    return answer
