"""What makes a language model an MGM: towers, mining, projector, and picture tokens between the words."""

import re
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, GenerationConfig

from flmm.models.loading import (
    LOADING,
    check_loading_info,
    find_folder,
    named_files,
    read_weights,
    repository_config,
    where_in,
)
from mgm.constants import IMAGE_TOKEN_INDEX
from mgm.mm_utils import process_images
from mgm.model.checkpoint import CLIP_NAME, OPEN_CLIP_NAME, choose_tower_weights, locate_tower
from mgm.model.mining import mine
from mgm.model.towers import AUX_STRIDE, CLIPVisionTower, OpenCLIPVisionTower

CONFIG_PREFIXES = ("mm_", "image_", "optimize_")


class VisionFields:
    """What config.json says about the picture, with the values it leaves out.

    Attributes:
        mm_vision_tower: Folder or hub name of CLIP.
        mm_vision_tower_aux: Folder or hub name of OpenCLIP's ConvNeXt.
        mm_vision_config: Arguments of `CLIPVisionConfig`; filled in from the tower.
        mm_aux_depths: Blocks of each ConvNeXt stage; filled in from the tower.
        mm_aux_dims: Channels of each ConvNeXt stage; filled in from the tower.
        mm_hidden_size: Channels of CLIP.
        mm_hidden_size_aux: Channels of all ConvNeXt stages together.
        mm_vision_select_layer: The CLIP hidden state that is read.
        mm_vision_select_feature: Only 'patch' exists among released weights.
        mm_projector_type: 'mlp<n>x_gelu', n linear layers.
        image_aspect_ratio: 'pad' pads a picture to a square before it is resized; otherwise its centre is taken.
        image_size_aux: Pixels of the picture that ConvNeXt sees.
        image_grid: CLIP sees the picture in image_grid x image_grid tiles.
        image_global: Whether CLIP sees the whole picture as well.
        optimize_vision_tower_aux: Whether ConvNeXt was trained, so that the checkpoint's one counts.
        tokenizer_model_max_length: The longest sequence, picture tokens included.
    """

    mm_vision_tower: str = CLIP_NAME
    mm_vision_tower_aux: str = OPEN_CLIP_NAME
    mm_vision_config: dict[str, Any] | None = None
    mm_aux_depths: list[int] | None = None
    mm_aux_dims: list[int] | None = None
    mm_hidden_size: int = 1024
    mm_hidden_size_aux: int = 2880
    mm_vision_select_layer: int = -2
    mm_vision_select_feature: str = "patch"
    mm_projector_type: str = "mlp2x_gelu"
    image_aspect_ratio: str | None = None
    image_size_aux: int = 768
    image_grid: int = 1
    image_global: bool = False
    optimize_vision_tower_aux: bool = False
    tokenizer_model_max_length: int = 2048


class MGMForCausalLM:
    """Put before a transformers causal LM; parameters bear the names of the released checkpoints.

    Attributes:
        image_processor: CLIP's image processor at `image_size_aux`; set by `from_pretrained`.
    """

    image_processor: CLIPImageProcessorPil

    def __init__(self, config: Any):
        check_config(config)
        super().__init__(config)
        width, width_aux = config.mm_hidden_size, config.mm_hidden_size_aux
        self.model.vision_tower = CLIPVisionTower(config.mm_vision_config, config.mm_vision_select_layer)
        self.model.vision_tower_aux = OpenCLIPVisionTower(config.mm_aux_depths, config.mm_aux_dims)
        self.model.mm_projector = projector(config.mm_projector_type, width, config.hidden_size)
        self.model.vlm_uni_query_projector = norm_and_linear(width, width)
        self.model.vlm_uni_aux_projector = norm_and_linear(width_aux, width)
        self.model.vlm_uni_val_projector = norm_and_linear(width_aux, width)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *args: Any, **kwargs: Any) -> Any:
        """Loads MGM and its two towers from folders or the hub.

        Args:
            pretrained_model_name_or_path: E.g. 'YanweiLi/MGM-7B': safetensors or .bin, whole or sharded.
            *args: Of the transformers model.
            **kwargs: Those of transformers (`dtype`, `device_map`, `quantization_config`, ...), and any `mm_*`,
                `image_*`, `optimize_*` entry of config.json, above all `mm_vision_tower` and `mm_vision_tower_aux`.

        Raises:
            FileNotFoundError: When a tower, config.json or a weight file is not there.
            ValueError: When another model lies there, weights are missing, or config.json asks for what MGM never had.
        """
        folder = find_folder(pretrained_model_name_or_path, **where_in(kwargs))
        repository_config(folder, cls.config_class.model_type)
        config = kwargs.pop("config", None) or cls.config_class.from_pretrained(folder)
        for key in [key for key in kwargs if key.startswith(CONFIG_PREFIXES)]:
            setattr(config, key, kwargs.pop(key))
        clip, aux = (locate_tower(config, key, folder) for key in ("mm_vision_tower", "mm_vision_tower_aux"))
        config.mm_vision_config = CLIPVisionConfig.from_pretrained(clip).to_diff_dict()
        weights = choose_tower_weights(read_weights(folder), config, clip, aux)
        kwargs |= LOADING
        with named_files(pretrained_model_name_or_path):
            model, info = super().from_pretrained(None, *args, config=config, state_dict=weights, **kwargs)
        check_loading_info(f"{cls.__name__} from {pretrained_model_name_or_path}", info, total=len(model.state_dict()))
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        model.image_processor = CLIPImageProcessorPil.from_pretrained(
            clip,
            size={"shortest_edge": config.image_size_aux},
            crop_size={"height": config.image_size_aux, "width": config.image_size_aux},
        )
        return model.eval()

    def process_images(self, images: list[Image.Image]) -> tuple[Tensor, Tensor]:
        """N pictures for `encode_images`: CLIP's [N, P, 3, s, s] and ConvNeXt's [N, 3, A, A], on the model's device."""
        pixels, pixels_aux = process_images(images, self.image_processor, self.config)
        return pixels.to(self.device, self.dtype), pixels_aux.to(self.device, self.dtype)

    @torch.no_grad()
    def encode_images(self, images: Tensor, images_aux: Tensor) -> Tensor:
        """Turns pictures into tokens.

        Args:
            images: [N, P, 3, s, s], the tiles row by row, then the whole picture when `image_global`.
            images_aux: [N, 3, A, A].

        Returns:
            [N, P*h*w, D], the whole picture before the tiles.
        """
        model, num_parts = self.model, images.shape[1]
        tokens = model.vision_tower(images.flatten(0, 1))  # [N*P, h*w, C]
        details = self._details(model.vision_tower_aux(images_aux)).flatten(0, 1)  # [N*P, C', H, W]
        tokens = tokens + mine(
            tokens,
            details.to(tokens),
            model.vlm_uni_query_projector,
            model.vlm_uni_aux_projector,
            model.vlm_uni_val_projector,
        )
        tokens = tokens.unflatten(0, (-1, num_parts))
        if self.config.image_global:
            tokens = tokens.roll(1, dims=1)
        return model.mm_projector(tokens.flatten(1, 2))

    def _details(self, features: Tensor) -> Tensor:
        """[N, C', H, W] -> [N, P, C', H/grid, W/grid], in the order of the pictures that CLIP sees."""
        grid = self.config.image_grid
        tiles = features.unflatten(3, (grid, -1)).unflatten(2, (grid, -1))  # [N, C', grid, H/grid, grid, W/grid]
        tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        if not self.config.image_global:
            return tiles
        whole = F.interpolate(features.float(), scale_factor=1 / grid, mode="bilinear").to(features.dtype)
        return torch.cat([tiles, whole[:, None]], dim=1)

    def embed(self, input_ids: Tensor, image_tokens: Tensor) -> Tensor:
        """Puts picture tokens in the places of the image index.

        Args:
            input_ids: [1, S0], with N times `IMAGE_TOKEN_INDEX`.
            image_tokens: [N, T, D] from `encode_images`.

        Returns:
            [1, S, D], S = S0 + N*(T-1).

        Raises:
            ValueError: When text and pictures disagree on N.
        """
        is_image = input_ids == IMAGE_TOKEN_INDEX
        if len(input_ids) != 1 or int(is_image.sum()) != len(image_tokens):
            raise ValueError(
                f"{len(image_tokens)} pictures for {int(is_image.sum())} image tokens (id {IMAGE_TOKEN_INDEX}) in "
                f"{len(input_ids)} text(s): give one text with one <image> for each picture"
            )
        repeats = torch.where(is_image[0], image_tokens.shape[1], 1)
        input_ids, is_image = (ids[0].repeat_interleave(repeats) for ids in (input_ids, is_image))
        embeds = self.get_input_embeddings()(input_ids.masked_fill(is_image, 0))
        embeds[is_image] = image_tokens.flatten(0, 1).to(embeds)
        return embeds[None]

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor,
        images: Tensor | None = None,
        images_aux: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Continues a text about pictures.

        Args:
            inputs: [1, S0] token ids, `IMAGE_TOKEN_INDEX` where a picture goes.
            images: From `process_images`; None when there is no picture.
            images_aux: From `process_images`.
            **kwargs: Of transformers' `generate`.

        Returns:
            The new tokens only (or what `return_dict_in_generate` asks for).

        Raises:
            ValueError: When text and pictures disagree on their number, or are longer than what the model reads.
        """
        if images is None:
            tokens = torch.empty(0, 0, self.config.hidden_size, device=inputs.device)
        else:
            tokens = self.encode_images(images, images_aux)
        embeds = self.embed(inputs, tokens)
        if embeds.shape[1] > self.config.tokenizer_model_max_length:
            raise ValueError(
                f"{embeds.shape[1]} tokens ({tokens.shape[1]} for each of {len(tokens)} pictures) are more than the "
                f"{self.config.tokenizer_model_max_length} that the model reads: shorten the text"
            )
        return super().generate(inputs_embeds=embeds, **kwargs)


def projector(kind: str, width: int, hidden_size: int) -> nn.Sequential:
    """The MLP from vision to language width: linear layers with GELU between them."""
    match = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if match is None:
        raise ValueError(f"mm_projector_type={kind!r}, but MGM was released with 'mlp<n>x_gelu' only (mlp2x_gelu)")
    layers: list[nn.Module] = [nn.Linear(width, hidden_size)]
    for _ in range(int(match[1]) - 1):
        layers += [nn.GELU(), nn.Linear(hidden_size, hidden_size)]
    return nn.Sequential(*layers)


def norm_and_linear(width: int, out: int) -> nn.Sequential:
    """LayerNorm, then a linear layer."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))


def check_config(config: Any) -> None:
    """Refuses what MGM cannot be built from.

    Raises:
        ValueError: When towers are not described, or sizes do not fit each other.
    """
    if config.mm_vision_config is None or config.mm_aux_dims is None:
        raise ValueError("the config does not describe the vision towers; build MGM with from_pretrained")
    if config.mm_vision_select_feature != "patch":
        raise ValueError(f"mm_vision_select_feature={config.mm_vision_select_feature!r}, but only 'patch' has a grid")
    clip = CLIPVisionConfig(**config.mm_vision_config)
    found = {"mm_hidden_size": clip.hidden_size, "mm_hidden_size_aux": sum(config.mm_aux_dims)}
    for key, value in found.items():
        if getattr(config, key) != value:
            raise ValueError(
                f"{key}={getattr(config, key)} in config.json, but the tower has {value} channels: wrong tower"
            )
    side = clip.image_size // clip.patch_size
    cells = AUX_STRIDE * config.image_grid * side
    if config.image_size_aux % cells:
        raise ValueError(
            f"image_size_aux={config.image_size_aux} must be a multiple of {cells} ({AUX_STRIDE} pixels x image_grid "
            f"{config.image_grid} x {side} CLIP patches), so that each patch has its detail"
        )
