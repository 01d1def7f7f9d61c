"""Ground with any image-text model of transformers by configuration alone (docs/add_a_backbone.md).

The model itself turns the sample into what its decoder reads: it runs until it calls the decoder, and is stopped there.
So image features, positions, masks and whatever else a model hands to its decoder need no code here.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from flmm.constants import IGNORE_INDEX, NO_PHRASE
from flmm.models.backbone import Backbone, Tokens, checked_pixels, handed_on, pictures_of
from flmm.models.frozen_lmm import FrozenLMM, RequireSAM, build
from flmm.models.grids import SquareGrid
from flmm.models.hf_checks import check_mask, check_model, find_decoder, naming_pixels, seeing_pictures
from flmm.models.loading import CheckedLoading

# Of what a model hands to its decoder: these say how to run and what to return, not what to read.
_HOW = {"use_cache", "cache", "past_key_values", "return_dict", "output_attentions", "output_hidden_states"}
_HOW |= {"logits_to_keep", "output_router_logits"}


class ImageTextModel(CheckedLoading, AutoModelForImageTextToText):  # type: ignore[misc]
    """Any image-text model of transformers."""


def load_image_text_model(pretrained_model_name_or_path: str, **kwargs: Any) -> nn.Module:
    """Load with AutoModelForImageTextToText.from_pretrained, and refuse incomplete weights."""
    return ImageTextModel.from_pretrained(pretrained_model_name_or_path, **kwargs)


class HFBackbone(Backbone):
    """An image-text model of transformers as the pipeline sees it.

    Args:
        model: The model; its config must name the image token.
        grid: Where the image tokens lie: called with their positions [N] and the processor's inputs, gives the
            views, V x [h, w] (`flmm.models.grids`).
        prefix_lm: Whether picture and prompt see each other, and only the text after them is causal (PaliGemma).
        padded: Whether the view shows a square that the processor padded (its `square=True`).
    """

    def __init__(self, model: nn.Module, grid: Any, prefix_lm: bool = False, padded: bool = False):
        super().__init__(model)
        self.grid, self.prefix_lm, self.views_include_padding = grid, prefix_lm, padded
        self.num_views = getattr(grid, "num_views", 1)  # a plain function gives one view
        check_model(model, self.decoder)

    @property
    def reader(self) -> nn.Module:
        """Return the model without its vocabulary head."""
        return getattr(self.model, "model", self.model)

    @property
    def decoder(self) -> nn.Module:
        """Return the language decoder inside the model."""
        return find_decoder(self.reader)

    def prompt(self, sample: dict[str, Any]) -> Tokens:
        """Return ids and pixels; `generate` computes from the picture all else that later tokens need."""
        inputs = self._inputs(sample)
        mask_ids, views = self._layout(sample, inputs)
        inputs.pop("labels", None)
        return Tokens(known_to(self.model, inputs), mask_ids, views)

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Run the model up to its decoder."""
        inputs = self._inputs(sample)
        mask_ids, views = self._layout(sample, inputs)
        decoder_inputs = self._decoder_inputs(inputs)
        check_mask(decoder_inputs.get("attention_mask"), (mask_ids >= 0).nonzero().flatten(), self.prefix_lm)
        return Tokens(decoder_inputs, mask_ids, views)

    def generate(self, **inputs: Any) -> Tensor:
        """See Backbone; ValueError for a picture of another model's processor, or one that the answer would not see."""
        watched, is_image = self.first_reader, inputs["input_ids"][0] == self.model.config.image_token_id
        with naming_pixels(self.model, inputs["pixel_values"]), seeing_pictures(self.model, watched, is_image):
            return super().generate(**inputs)

    def _layout(self, sample: dict[str, Any], inputs: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
        """Return `mask_ids` [S] and the views."""
        is_image = inputs["input_ids"][0] == self.model.config.image_token_id
        positions, pictures = is_image.nonzero().flatten(), pictures_of(sample)
        if not len(positions):
            raise ValueError(
                f"none of {len(is_image)} tokens is the image token {self.model.config.image_token_id} of "
                f"{type(self.model).__name__}: set image_token to the text that its processor replaces by them, and "
                "check that processor and model belong together"
            )
        if len(pictures) == 1:
            views = self.grid(positions, inputs)
        else:
            counts = [int((own["image_token_ids"] == self.model.config.image_token_id).sum()) for own in pictures]
            parts = zip(positions.split(counts), pictures, strict=True)
            views = [view for part, own in parts for view in self.grid(part, own["lmm_inputs"])]
        return sample["mask_ids"].to(self.device).masked_fill(is_image, NO_PHRASE), views

    def _inputs(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return every input that a model may take of a sample."""
        input_ids = sample["input_ids"]
        is_image = input_ids == self.model.config.image_token_id
        text = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        text |= dict.fromkeys(("token_type_ids", "mm_token_type_ids"), is_image.long())
        if self.prefix_lm:  # without labels, transformers lets every token of the text see all others
            text |= {"token_type_ids": (sample["labels"] != IGNORE_INDEX).long(), "labels": sample["labels"]}
        text |= self._of_tokens(sample, is_image)
        pixels = checked_pixels(sample, type(self.reader).__name__)
        processed = {"pixel_values": pixels, **sample.get("lmm_inputs", {})}
        everything = {key: value[None] for key, value in text.items()} | processed
        return {key: self._moved(value) for key, value in everything.items()}

    def _of_tokens(self, sample: dict[str, Any], is_image: Tensor) -> dict[str, Tensor]:
        """Place the processor's values for the tokens of each picture in the text, [S]; 0 elsewhere."""
        found: dict[str, Tensor] = {}
        positions = is_image.nonzero().flatten()
        for own in pictures_of(sample):
            inside = (own["image_token_ids"] == self.model.config.image_token_id).nonzero().flatten()
            for key, values in own.get("token_inputs", {}).items():
                places = values.nonzero().flatten()
                found.setdefault(key, torch.zeros_like(sample["input_ids"]))[places - inside[0] + positions[0]] = (
                    values[places]
                )
            positions = positions[len(inside) :]
        return found

    @property
    def first_reader(self) -> nn.Module:
        """Return the decoder, or its first layer when it embeds the picture itself (Chameleon)."""
        decoder: Any = self.decoder
        first: nn.Module = decoder.layers[0]
        return first if decoder is self.reader else decoder

    def _decoder_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        stop = self.first_reader.register_forward_pre_hook(_stop, with_kwargs=True)
        try:
            with naming_pixels(self.reader, inputs["pixel_values"]):
                self.reader(**known_to(self.reader, inputs), use_cache=False)
        except _ReachedDecoderError as reached:
            return self._to_read(reached.inputs)
        finally:
            stop.remove()
        raise ValueError(f"{type(self.reader).__name__} never called its decoder: it needs its own adapter")

    def _to_read(self, given: dict[str, Any]) -> dict[str, Any]:
        """Select the arguments that the decoder reads."""
        if self.decoder is self.reader:  # a layer was stopped, which is given more than a decoder takes
            given = known_to(self.decoder, given)
        given = {key: value for key, value in given.items() if key not in _HOW and value is not None}
        if "inputs_embeds" not in given:
            raise ValueError(f"{type(self.reader).__name__} hands its decoder {sorted(given)}, but no inputs_embeds")
        mask = given.get("attention_mask")
        if len(given) == 2 and isinstance(mask, Tensor) and mask.ndim == 2:
            del given["attention_mask"]  # all ones; beside positions it is kept, as it says: these are one sequence
        return given

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.model.dtype if value.is_floating_point() else None)


def known_to(module: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Keep the inputs that the module's forward takes."""
    return {key: inputs[key] for key in inspect.signature(module.forward).parameters if key in inputs}


class _ReachedDecoderError(Exception):
    def __init__(self, inputs: dict[str, Any]):
        super().__init__("stopped at the decoder")
        self.inputs = inputs


def _stop(_module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
    raise _ReachedDecoderError(handed_on(args, inputs))


class FrozenHF(FrozenLMM):
    """Coarse masks from a frozen image-text model of transformers.

    Args:
        model: The model or its config.
        grid: Grid rule or its config; by default all image tokens are one square.
        prefix_lm: Whether picture and prompt see each other, and only the text after them is causal (PaliGemma).
        padded: Whether the view shows a square that the processor padded (its `square=True`).
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, grid: Any = None, prefix_lm: bool = False, padded: bool = False, **head: Any):
        super().__init__(backbone=HFBackbone(build(model), build(grid) or SquareGrid(), prefix_lm, padded), **head)


class FrozenHFSAM(RequireSAM, FrozenHF):
    """Coarse masks from a frozen image-text model of transformers, refined by SAM."""
