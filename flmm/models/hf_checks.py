"""What an image-text model of transformers must have to be read, and what makes it unreadable."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from flmm.models.backbone import handed_on
from flmm.models.capture import final_norm

# Of a decoder's config: settings of attention or layers that would be read wrongly.
_DECODER = {
    "cross_attention_layers": "reads the picture by cross-attention: no tokens of its text stand for the picture",
    "hc_count": "its layers hand on several states of a token (hyper-connections), of which none is the hidden state",
    "altup_num_inputs": "its layers hand on several states of a token (AltUp), of which none is the hidden state",
}
# Of a model's config: parts after which no token stands for a place of the picture.
_NO_PLACE = {
    "qformer_config": "a Q-Former",
    "perceiver_config": "a perceiver",
    "projector_patch_to_query_dict": "learned queries",
}


class BlindError(ValueError):
    """An answer would be given without looking at the picture."""


def find_decoder(reader: nn.Module) -> nn.Module:
    """The language decoder inside a model, or the model itself.

    Raises:
        ValueError: When there is none that can be observed.
    """
    parts: list[Any] = [getattr(reader, name, None) for name in ("language_model", "text_model")]
    for decoder in (*parts, *(getattr(part, "model", None) for part in parts), reader):
        if hasattr(decoder, "layers"):
            check_decoder(type(reader).__name__, decoder)
            if final_norm(decoder) is not None:
                return decoder
    raise ValueError(
        f"{type(reader).__name__} has no language_model or text_model with layers and a final norm, and is none: its "
        "attention cannot be observed without an adapter that names the decoder"
    )


def check_model(model: Any, decoder: Any) -> None:
    """Refuses a model whose attention or image tokens would be read wrongly."""
    name = type(model).__name__
    windows = getattr(model.config, "downsample_rate", None)  # Granite 4: queries of a window show that window
    for setting, why in _NO_PLACE.items():
        if getattr(model.config, setting, None) is not None and not windows:
            raise ValueError(f"{name} reads the picture through {why} ({setting}): its tokens show no place in it")
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{name} reads the picture in its encoder: no tokens of its text stand for the picture")
    if getattr(model.config, "image_token_id", None) is None:
        raise ValueError(f"{name}: its config names no image_token_id, so its image tokens cannot be found")
    shared = getattr(decoder.config, "num_kv_shared_layers", None)
    first = next(iter(getattr(decoder, "layers", ())), None)  # handed to it, they are shared without a cache too
    if shared and (first is None or "shared_kv_states" not in signature(first.forward).parameters):
        raise ValueError(
            f"{name} cannot be read (num_kv_shared_layers): its layers share keys and values with a cache only, "
            "and are read without one"
        )
    check_decoder(name, decoder)


def check_decoder(name: str, decoder: Any) -> None:
    """Refuses a decoder whose layers would be read wrongly."""
    for setting, why in _DECODER.items():
        if getattr(decoder.config, setting, None):
            raise ValueError(f"{name} cannot be read ({setting}): {why}")


@contextmanager
def naming_pixels(module: nn.Module, pixels: Tensor) -> Iterator[None]:
    """Of what a model says when it cannot read a picture, a ValueError that says what to check."""
    try:
        yield
    except (torch.OutOfMemoryError, BlindError):
        raise
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{type(module).__name__} cannot read pixel_values {list(pixels.shape)} ({error}): check that image token, "
            "tokenizer and LMM belong together, and name the image processor of the repository that the LMM comes from"
        ) from error


@contextmanager
def seeing_pictures(model: Any, watched: nn.Module, is_image: Tensor) -> Iterator[None]:
    """Refuses an answer that would not see the picture, as `generate` of some models drops it (Emu3 in 4.57).

    Args:
        model: The model that answers.
        watched: The module that is handed the embeddings of the prompt.
        is_image: [S], which tokens of the prompt stand for the picture.

    Raises:
        BlindError: When these are still the embeddings of the image token.
    """
    table, token = model.get_input_embeddings(), model.config.image_token_id
    outside = token >= len(table.weight)  # such an id has no embedding, so the model cannot have taken it

    def look(_module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        embeds = handed_on(args, inputs).get("inputs_embeds")
        if embeds is None or embeds.shape[1] != len(is_image) or not is_image.any() or outside:
            return
        seen = embeds[0, is_image.to(embeds.device)]
        ids = torch.full(seen.shape[:1], token, device=is_image.device)
        if torch.equal(seen, table(ids).to(seen)):
            raise BlindError(
                f"{type(model).__name__} of this version of transformers answers without looking at the picture: its "
                "generate drops the pixels. Grounding a text that you give still works"
            )

    hook = watched.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def check_mask(masks: Any, rows: Tensor, prefix_lm: bool) -> None:
    """Refuses a mask by which words of a phrase see what comes after them, or a prefix LM that made none.

    Args:
        masks: A mask or a dict of them: [1, 1, S, S] boolean (True = visible) or additive (0 = visible).
        rows: [T] positions of the words.
        prefix_lm: Whether picture and prompt see each other.
    """
    masks = list(masks.values()) if isinstance(masks, dict) else [masks]
    masks = [mask for mask in masks if isinstance(mask, Tensor) and mask.ndim == 4]
    if prefix_lm and not masks:
        raise ValueError(
            "prefix_lm=True, but the model made no mask by which picture and prompt see each other: load it with "
            "attn_implementation='sdpa', or declare prefix_lm=False"
        )
    for mask in masks:
        visible = mask[0, 0, rows] if mask.dtype == torch.bool else mask[0, 0, rows] == 0
        if (visible & (torch.arange(visible.shape[1], device=rows.device) > rows[:, None])).any():
            raise ValueError(
                "words of a phrase would see the words after them: declare prefix_lm=True for a model whose picture "
                "and prompt see each other (PaliGemma); any other needs an adapter of its own"
            )
