"""The contract between a frozen LMM and the grounding pipeline.

A backbone says two things: how one sample becomes what the LMM's decoder reads, and where in that sequence
the image tokens lie. Everything after that is shared (`flmm.models.frozen_lmm`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flmm.constants import NO_PHRASE
from flmm.models.capture import attending_layers


@dataclass(frozen=True)
class Tokens:
    """Input of the LMM for one sample.

    Attributes:
        inputs: Keyword arguments of the decoder, a batch of one, e.g. `inputs_embeds` [1, S, D] and
            `position_ids`.
        mask_ids: [S], the phrase each token belongs to, -1 for none; image tokens are -1.
        views: V tensors [h, w] of positions in 0..S-1: the image tokens of each view, as they lie in the picture; those
            of a second picture follow those of the first.
    """

    inputs: dict[str, Any]
    mask_ids: Tensor
    views: list[Tensor]


@dataclass(frozen=True)
class Reading:
    """Output of one forward pass of the LMM that the pipeline needs.

    Attributes:
        attention: V tensors [L, A, M, h, w], softmaxed over all keys, rows merged by phrase; V views per picture.
        hidden: [L, T_total, D], outputs of the layers at the phrase tokens (the last one after the final norm).
        mask_ids: [S], the phrase of each token, -1 for none.
        text: [L, T, D], as `hidden` but at all tokens of the text; None unless the reader keeps it.
    """

    attention: list[Tensor]
    hidden: Tensor
    mask_ids: Tensor
    text: Tensor | None = None

    @property
    def phrase_ids(self) -> Tensor:
        """Return the phrase of each row of `hidden`, [T_total]."""
        return self.mask_ids[self.mask_ids >= 0]

    @property
    def num_phrases(self) -> int:
        """Return M, the number of phrases."""
        return self.attention[0].shape[2]

    def of_picture(self, index: int, num_pictures: int) -> "Reading":
        """Return the same phrases with their attention to one of several pictures."""
        return replace(self, attention=views_of_picture(self.attention, index, num_pictures))


class Backbone(nn.Module, ABC):
    """A frozen LMM as the pipeline sees it. Subclasses write `tokens` and name the `decoder`.

    Attributes:
        channel_order: Order of the stacked maps. 'view' = (view, layer, head), 'layer' = (layer, view, head).
        views_include_padding: Whether the finest view still shows the padding that the image processor added
            (then the coarse masks are cropped to the picture).
        resize_before_merge: Whether coarser views are resized to the finest one before the rows of a phrase
            are merged; differs from resizing afterwards only for `merge='max'`.
        num_views: V, the views of a picture.
    """

    channel_order: Literal["view", "layer"] = "view"
    views_include_padding: bool = True
    resize_before_merge: bool = False
    num_views: int = 1
    model: Any  # the LMM, frozen; every subclass knows the attributes of its own

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.requires_grad_(False).eval()

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """Return the language decoder (embeddings to last hidden state, without the vocabulary head)."""

    @property
    def first_reader(self) -> Any:
        """Return the module that gets the embeddings first."""
        return self.decoder

    @abstractmethod
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Turn one data sample into decoder inputs, phrase indices and image positions."""

    @property
    def num_layers(self) -> int:
        """Return the number of decoder layers; each gives hidden states."""
        return self.decoder.config.num_hidden_layers

    @property
    def attending(self) -> list[int]:
        """Return indices of the L layers that give attention maps: all layers, except in hybrid decoders."""
        return attending_layers(self.decoder)

    @property
    def num_heads(self) -> int:
        """Return A, the query heads of a layer (with grouped-query attention, not the key/value heads)."""
        return self.decoder.config.num_attention_heads

    @property
    def num_channels(self) -> int:
        """Return C = V·L·A, the number of attention maps of a phrase."""
        return self.num_views * len(self.attending) * self.num_heads

    @property
    def hidden_size(self) -> int:
        """Return D, the width of the decoder."""
        return self.decoder.config.hidden_size

    @property
    def max_length(self) -> int | None:
        """Return the most tokens (picture, prompt, text) that the LMM reads; None when its config does not say."""
        return getattr(self.decoder.config, "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        """Return the device of the LMM's inputs."""
        return next(value.device for value in self.model.parameters() if value.device.type != "meta")

    def _apply(self, fn: Any, recurse: bool = True) -> "Backbone":
        """Move and cast the LMM, except parts that accelerate has spread over devices (`device_map`)."""
        _move(self, fn)
        return self

    def prompt(self, sample: dict[str, Any]) -> Tokens:
        """Do as `tokens` for a sample without a caption; `inputs` are those of `generate`."""
        return self.tokens(sample)

    def generate(self, **inputs: Any) -> Tensor:
        """Let the LMM continue a prompt.

        Args:
            **inputs: What `prompt` gave, and keywords of transformers' `generate`.

        Returns:
            [1, T] ids of what it says.
        """
        ids = self.model.generate(**inputs)
        return ids[:, inputs["input_ids"].shape[1] :] if "input_ids" in inputs else ids

    @property
    def vocabulary(self) -> nn.Module:
        """Return the layer that maps the decoder's last hidden state to a logit per word."""
        return self.model.get_output_embeddings()

    def spliced(
        self, sample: dict[str, Any], features: list[Tensor], image_token_id: int, embedding: nn.Module
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Put the features of each picture in the place of its image token.

        Args:
            sample: The sample, with P pictures.
            features: P tensors [N, D].
            image_token_id: Id of the token that stands for a picture.
            embedding: The LMM's embedding of words.

        Returns:
            Embeddings [1, S, D], `mask_ids` [S] and P tensors [N] of positions.

        Raises:
            ValueError: When the image token does not occur once for each picture.
        """
        counts = [len(own) for own in features]
        input_ids, mask_ids, images = expand_image_tokens(
            sample["input_ids"].to(self.device), sample["mask_ids"].to(self.device), image_token_id, counts
        )
        places = torch.cat(images)
        embeds = embedding(input_ids.index_fill(0, places, 0))  # the image token may have no embedding
        embeds[places] = torch.cat(features).to(embeds)
        return embeds[None], mask_ids, images

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in eval mode for any `mode`: the LMM is frozen, dropout included."""
        return super().train(False)


def _move(module: nn.Module, fn: Callable[[Tensor], Tensor]) -> None:
    """Run `nn.Module._apply`, but keep the dtype of buffers that no file holds, as transformers does when it loads.

    Rotary frequencies are such buffers: in bfloat16, as DeepSpeed casts them, phases are off by a radian at token 800.
    """
    if len(set(getattr(module, "hf_device_map", {}).values())) > 1:
        return
    for child in module.children():
        if type(child)._apply is nn.Module._apply:
            _move(child, fn)
        else:
            child._apply(fn)
    made = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
    nn.Module._apply(module, fn, recurse=False)
    for name, buffer in made.items():
        if buffer is not None:
            module._buffers[name] = buffer.to(fn(buffer).device)


def pictures_of(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the image processor's output for each picture of a sample; a sample of one picture is its own list."""
    return sample.get("pictures", [sample])


def views_of_picture(views: list[Any], index: int, num_pictures: int) -> list[Any]:
    """Return the V views of one picture out of V·P views, which are ordered picture by picture."""
    per_picture = len(views) // num_pictures
    return views[index * per_picture : (index + 1) * per_picture]


def expand_image_tokens(
    input_ids: Tensor, mask_ids: Tensor, image_token_id: int, counts: Sequence[int]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Repeat each image token of a sequence once per feature of its picture.

    Args:
        input_ids: [S0], with `image_token_id` once for each of P pictures.
        mask_ids: [S0].
        image_token_id: Id of the token that stands for a picture.
        counts: How many features each picture has.

    Returns:
        `input_ids` [S], `mask_ids` [S] (-1 at the pictures) and P tensors of positions.

    Raises:
        ValueError: When the image token does not occur P times.
    """
    is_image = input_ids == image_token_id
    if (found := int(is_image.sum())) != len(counts):
        raise ValueError(
            f"the input has {found} image tokens (id {image_token_id}) where {len(counts)} is needed: the prompt must "
            "contain the image token exactly once for each picture, and tokenizer and LMM must agree on its id"
        )
    repeats = torch.ones_like(input_ids).masked_scatter(is_image, torch.tensor(counts, device=input_ids.device))
    mask_ids = mask_ids.masked_fill(is_image, NO_PHRASE).repeat_interleave(repeats)
    input_ids = input_ids.repeat_interleave(repeats)
    positions = (input_ids == image_token_id).nonzero().flatten()
    return input_ids, mask_ids, list(positions.split(list(counts)))


def image_views(is_image: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return positions of image tokens that the processor has laid out row by row.

    Args:
        is_image: [S], True at the tokens of the pictures.
        sizes: (h, w) of the grid of each picture.

    Returns:
        For each picture [h, w] positions in 0..S-1.

    Raises:
        ValueError: When the number of image tokens is not the sum of h·w.
    """
    positions = is_image.nonzero().flatten()
    counts = [height * width for height, width in sizes]
    if len(positions) != sum(counts):
        grids = " and ".join(f"{height} x {width}" for height, width in sizes)
        raise ValueError(
            f"{len(positions)} image tokens in the input, but the picture has {grids}: tokenizer and image "
            "processor must be those of this LMM, and the prompt must hold each picture once"
        )
    return [own.view(size) for own, size in zip(positions.split(counts), sizes, strict=True)]


def check_phrases(mask_ids: Tensor) -> int:
    """Count the phrases M of tokens [S], and check that each of 0..M-1 has a token.

    Raises:
        ValueError: When there is no phrase, or one of them has no token.
    """
    found = set(mask_ids[mask_ids >= 0].tolist())
    missing = sorted(set(range(max(found, default=-1) + 1)) - found)
    if not found or missing:
        what = f"phrases {missing} have no token" if found else "no token belongs to a phrase"
        raise ValueError(f"{what}: mask_ids must name every phrase 0..M-1 at least once (was the text truncated?)")
    return len(found)


class TooLongError(ValueError):
    """Picture, prompt and text are longer than what the LMM reads."""


def check_length(length: int, longest: int | None) -> None:
    """Raise TooLongError when the LMM cannot read that many tokens."""
    if longest is not None and length > longest:
        raise TooLongError(
            f"{length} tokens (picture, prompt and text), but the LMM reads at most {longest}: shorten the text, or "
            "let the processor make fewer image tokens"
        )


def handed_on(args: tuple[Any, ...], inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a decoder, or of its first layer, with the embeddings as `inputs_embeds`."""
    return {"inputs_embeds": args[0], **inputs} if args else inputs


def checked_pixels(sample: dict[str, Any], lmm: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return `pixel_values` of a sample.

    Towers do not always notice pictures of another size, and what they say when they do names no cure.

    Args:
        sample: A sample.
        lmm: What the message calls the LMM.
        shape: What `pixel_values` must be; None when the LMM checks it itself.

    Raises:
        ValueError: When another model's image processor made them.
    """
    pixels = sample["pixel_values"]
    found = list(pixels.shape) if isinstance(pixels, Tensor) else f"a {type(pixels).__name__}"
    if not isinstance(pixels, Tensor) or (shape is not None and pixels.shape != shape):
        needed = f"{list(shape)}" if shape is not None else "a tensor"
        raise ValueError(
            f"pixel_values is {found}, but {lmm} reads {needed}: use the image processor that belongs to this LMM, as "
            "its config does (with image2tensor=True, unless that config says False)"
        )
    return pixels
