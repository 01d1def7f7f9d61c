"""Any image-text model of transformers, by configuration alone (docs/add_a_backbone.md).

The model itself turns the sample into what its decoder reads: it runs until it calls the decoder, and is stopped there.
So image features, positions, masks and whatever else a model hands to its decoder need no code here.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from flmm.models.backbone import Backbone, Tokens
from flmm.models.frozen_lmm import FrozenLMM, build
from flmm.models.grids import SquareGrid
from llava.loading import check_loading_info

# Of what a model hands to its decoder: these say how to run, not what to read.
_HOW = {"use_cache", "past_key_values", "cache_position", "return_dict", "output_attentions", "output_hidden_states"}


def load_image_text_model(pretrained_model_name_or_path: str, **kwargs: Any) -> nn.Module:
    """AutoModelForImageTextToText.from_pretrained, but refusing weights that are incomplete."""
    load: Any = AutoModelForImageTextToText.from_pretrained
    model, info = load(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
    check_loading_info(f"{type(model).__name__} from {pretrained_model_name_or_path}", info, len(model.state_dict()))
    return model


class HFBackbone(Backbone):
    """An image-text model of transformers as the pipeline sees it.

    Args:
        model: The model; its config must name the image token.
        grid: Where the image tokens lie: called with their positions [N] and the processor's inputs, gives [h, w].
    """

    views_include_padding = False

    def __init__(self, model: nn.Module, grid: Any):
        super().__init__(model)
        self.grid = grid
        check_model(model, self.decoder)

    @property
    def reader(self) -> nn.Module:
        """The model without its vocabulary head."""
        return getattr(self.model, "model", self.model)

    @property
    def decoder(self) -> nn.Module:
        """The language decoder inside the model."""
        return find_decoder(self.reader)

    @torch.no_grad()
    def tokens(self, sample: dict[str, Any]) -> Tokens:
        """Runs the model up to its decoder."""
        input_ids = sample["input_ids"].to(self.device)
        is_image = input_ids == self.model.config.image_token_id
        processed = {"pixel_values": sample["pixel_values"], **sample.get("lmm_inputs", {})}
        view = self.grid(is_image.nonzero().flatten(), processed)
        mask_ids = sample["mask_ids"].to(self.device).masked_fill(is_image, -1)
        return Tokens(self._decoder_inputs(input_ids, is_image, processed), mask_ids, [view])

    def _decoder_inputs(self, input_ids: Tensor, is_image: Tensor, processed: dict[str, Any]) -> dict[str, Any]:
        everything = {
            "input_ids": input_ids[None],
            "attention_mask": torch.ones_like(input_ids)[None],
            "token_type_ids": is_image.long()[None],
            **{key: self._moved(value) for key, value in processed.items()},
        }
        known = inspect.signature(self.reader.forward).parameters
        inputs = {key: value for key, value in everything.items() if key in known}
        stop = self.decoder.register_forward_pre_hook(_stop, with_kwargs=True)
        try:
            self.reader(**inputs, use_cache=False)
        except _ReachedDecoderError as reached:
            return {key: value for key, value in reached.inputs.items() if key not in _HOW and value is not None}
        finally:
            stop.remove()
        raise ValueError(f"{type(self.reader).__name__} never called its decoder: it needs an adapter of its own")

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.model.dtype if value.is_floating_point() else None)


class _ReachedDecoderError(Exception):
    def __init__(self, inputs: dict[str, Any]):
        super().__init__("stopped at the decoder")
        self.inputs = inputs


def _stop(_decoder: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
    raise _ReachedDecoderError(inputs)


def find_decoder(reader: nn.Module) -> nn.Module:
    """The language decoder inside a model.

    Raises:
        ValueError: When there is none that can be observed.
    """
    for name in ("language_model", "text_model"):
        decoder = getattr(reader, name, None)
        if decoder is not None and hasattr(decoder, "layers") and hasattr(decoder, "norm"):
            return decoder
    raise ValueError(
        f"{type(reader).__name__} has no language_model or text_model with layers and norm: it needs its own adapter"
    )


def check_model(model: Any, decoder: Any) -> None:
    """Refuses a model whose attention or image tokens would be read wrongly."""
    name = type(model).__name__
    if getattr(model.config, "image_token_id", None) is None:
        raise ValueError(f"{name}: its config names no image_token_id, so its image tokens cannot be found")
    if getattr(decoder.config, "attn_logit_softcapping", None):
        raise ValueError(f"{name}: attention with attn_logit_softcapping is neither run by sdpa nor captured")


class FrozenHF(FrozenLMM):
    """Coarse masks from a frozen image-text model of transformers.

    Args:
        model: The model or its config.
        grid: Grid rule or its config; by default all image tokens are one square.
        **head: Arguments of `FrozenLMM`: mask_head, merge, loss_mask, loss_dice, sam, pretrained.
    """

    def __init__(self, model: Any, grid: Any = None, **head: Any):
        super().__init__(backbone=HFBackbone(build(model), build(grid) or SquareGrid()), **head)


class FrozenHFSAM(FrozenHF):
    """Coarse masks from a frozen image-text model of transformers, refined by SAM."""

    def __init__(self, model: Any, sam: Any, **head: Any):
        super().__init__(model=model, sam=sam, **head)
