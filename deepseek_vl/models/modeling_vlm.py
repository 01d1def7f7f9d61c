"""DeepSeek-VL (1.3B: SigLIP; 7B: SigLIP and SAM) on transformers' own modules."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
)

from deepseek_vl.models.image_processing_vlm import CLIP_MEAN, CLIP_STD
from deepseek_vl.models.original_format import convert_weights, read_config
from flmm.models.loading import (
    LOADING,
    check_loading_info,
    find_folder,
    named_files,
    read_weights,
    repository_config,
    where_in,
)


class MultiModalityCausalLM:
    """DeepSeek-VL under its original name; `from_pretrained` gives one of the two classes below."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, *, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Loads `deepseek-ai/deepseek-vl-*` or `deepseek-community/deepseek-vl-*`.

        Args:
            pretrained_model_name_or_path: Folder or repository on the hub, in the original format or in transformers'.
            output_loading_info: Whether to return (model, info) as transformers does.
            **kwargs: As in transformers: dtype, device_map, quantization_config, ...

        Raises:
            FileNotFoundError: When there is no such folder, or it has no weights.
            ValueError: When weights are missing, or the folder holds another model.
        """
        name = pretrained_model_name_or_path
        folder = find_folder(name, **where_in(kwargs))
        raw = repository_config(folder)
        if raw["model_type"] == "multi_modality":
            config = read_config(raw)
            projector = raw["aligner_config"]["params"]["projector_type"]
            kwargs |= {"config": config, "state_dict": convert_weights(read_weights(folder), projector)}
            source = None
        else:
            config, source = AutoConfig.from_pretrained(folder), folder
        model_class = _class_of(config, name)
        load = super(MultiModalityCausalLM, model_class).from_pretrained
        with named_files(name):
            model, info = load(source, **kwargs, **LOADING)
        check_loading_info(f"DeepSeek-VL from {name}", info, total=len(model.state_dict()))
        return (model, info) if output_loading_info else model

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Features [N, h·w, D] of squares [N, 3, s, s] that `VLMImageProcessor` made."""
        raise NotImplementedError

    @torch.no_grad()
    def prepare_inputs_embeds(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        images_seq_mask: Tensor,
        images_emb_mask: Tensor,
        **_: Any,
    ) -> Tensor:
        """Embeddings [B, S, D] of what `VLChatProcessor` made, for `generate(inputs_embeds=...)`.

        Args:
            input_ids: [B, S].
            pixel_values: [B, N, 3, s, s].
            images_seq_mask: [B, S], True at image tokens.
            images_emb_mask: [B, N, h·w], False for pictures that only fill the batch.
        """
        embeds = self.get_input_embeddings()(input_ids.masked_fill(images_seq_mask, 0))  # type: ignore[attr-defined]
        features = self.image_features(pixel_values[images_emb_mask.any(-1)])
        embeds[images_seq_mask] = features.flatten(0, 1).to(embeds)
        return embeds


class OneTowerCausalLM(MultiModalityCausalLM, DeepseekVLForConditionalGeneration):
    """DeepSeek-VL-1.3B: SigLIP at 384 pixels."""

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """See the base class; normalizes `pixel_values` when the tower has statistics, as the released tower does."""
        pixel_values = pixel_values.to(self.device)
        if getattr(self.config.vision_config, "pixel_mean", None):
            pixel_values = normalize(pixel_values.float(), self.config.vision_config, (0.5,) * 3, (0.5,) * 3)
        return self.model.get_image_features(pixel_values.to(self.dtype)).pooler_output


class TwoTowerCausalLM(MultiModalityCausalLM, DeepseekVLHybridForConditionalGeneration):
    """DeepSeek-VL-7B: SigLIP at 384 pixels beside SAM's encoder at 1024."""

    def __init__(self, config: DeepseekVLHybridConfig):
        super().__init__(config)
        high = config.high_res_vision_config
        self._set_channels(getattr(high, "downsample_channels", None) or [c * high.output_channels for c in (2, 4)])

    def _set_channels(self, channels: list[int]) -> None:
        """Gives the high-resolution path the channels of its tower; transformers has those of the 7B model only."""
        proj, aligner = self.model.high_res_vision_proj, self.model.aligner
        if channels == [proj.conv1.out_channels, proj.conv2.out_channels]:
            return
        stride = {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False}
        proj.conv1 = nn.Conv2d(proj.conv1.in_channels, channels[0], **stride)
        proj.conv2 = nn.Conv2d(channels[0], channels[1], **stride)
        aligner.high_res_vision_proj = nn.Linear(channels[1], aligner.high_res_vision_proj.out_features)

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """See the base class; `pixel_values` are in 0..1, each tower normalizes them for itself."""
        low, high = self.config.vision_config, self.config.high_res_vision_config
        pixel_values = pixel_values.to(self.device, torch.float32)
        size = (low.image_size, low.image_size)
        small = F.interpolate(pixel_values, size, mode="bilinear", antialias=True)
        features = self.model.get_image_features(
            normalize(small, low, (0.5,) * 3, (0.5,) * 3).to(self.dtype),
            normalize(pixel_values, high, CLIP_MEAN, CLIP_STD).to(self.dtype),
        )
        return features.pooler_output


def normalize(pixel_values: Tensor, config: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalizes [N, 3, s, s] with a tower's own statistics, or with those of the released model."""
    mean, std = getattr(config, "pixel_mean", mean), getattr(config, "pixel_std", std)
    return (pixel_values - pixel_values.new_tensor(mean)[:, None, None]) / pixel_values.new_tensor(std)[:, None, None]


def _class_of(config: Any, name: str) -> type:
    if isinstance(config, DeepseekVLHybridConfig):
        return TwoTowerCausalLM
    if isinstance(config, DeepseekVLConfig):
        return OneTowerCausalLM
    raise ValueError(
        f"{name} holds a {config.model_type!r}, not a DeepSeek-VL: known are 'multi_modality' (deepseek-ai/...), "
        "'deepseek_vl' and 'deepseek_vl_hybrid' (deepseek-community/...)"
    )
