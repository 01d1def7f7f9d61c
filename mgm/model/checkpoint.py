"""Where MGM's weights lie: its own repository, CLIP's, and OpenCLIP's ConvNeXt."""

from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPVisionModel, PretrainedConfig

from flmm.models.loading import LOADING, check_loading_info
from mgm.model.towers import trunk_shape

CLIP_NAME = "openai/clip-vit-large-patch14-336"
OPEN_CLIP_NAME = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"
CLIP_PREFIX = "model.vision_tower.vision_tower."
AUX_PREFIX = "model.vision_tower_aux.vision_"
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPEN_CLIP_PREFIX = "visual.trunk."


def locate_tower(config: PretrainedConfig, key: str, folder: Path) -> str:
    """Local folder or hub name of a tower.

    Args:
        config: Names the tower under `key`.
        key: 'mm_vision_tower' or 'mm_vision_tower_aux'.
        folder: MGM's own folder; the tower may lie inside it.

    Raises:
        FileNotFoundError: When the name is neither a folder nor `owner/name`.
    """
    name = str(getattr(config, key))
    for path in (Path(name).expanduser(), folder / name):
        if path.is_dir():
            return str(path)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    raise FileNotFoundError(
        f"{key}={name!r} is neither a folder (here or in {folder}) nor owner/name on the hub (released config.json "
        f"name a folder of their authors): pass mm_vision_tower={CLIP_NAME!r} and "
        f"mm_vision_tower_aux={OPEN_CLIP_NAME!r}, or local copies of them, to from_pretrained"
    )


def read_clip(location: str) -> dict[str, Tensor]:
    """CLIP's vision weights under their names in MGM."""
    clip, info = CLIPVisionModel.from_pretrained(location, dtype="auto", **LOADING)
    weights = clip.state_dict()
    check_loading_info(f"MGM's CLIP tower from {location}", {**info, "unexpected_keys": []}, total=len(weights))
    return {CLIP_PREFIX + key: value for key, value in weights.items()}


def read_open_clip(location: str) -> dict[str, Tensor]:
    """Stem and stages of OpenCLIP's ConvNeXt under their names in MGM.

    Raises:
        FileNotFoundError: When the tower has no open_clip weight file.
        ValueError: When that file holds no ConvNeXt.
    """
    path = _open_clip_file(location)
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            trunk = {key: file.get_tensor(key) for key in file.keys() if key.startswith(OPEN_CLIP_PREFIX)}  # noqa: SIM118
    else:
        trunk = torch.load(path, map_location="cpu", weights_only=True)
    parts = (f"{OPEN_CLIP_PREFIX}stem.", f"{OPEN_CLIP_PREFIX}stages.")
    weights = {AUX_PREFIX + key.removeprefix(OPEN_CLIP_PREFIX): v for key, v in trunk.items() if key.startswith(parts)}
    if not any(key.endswith(".gamma") for key in weights):
        raise ValueError(
            f"{path}: no {OPEN_CLIP_PREFIX}stages.*.gamma among its tensors, so it is not OpenCLIP's ConvNeXt; "
            f"mm_vision_tower_aux must name a ConvNeXt CLIP such as {OPEN_CLIP_NAME}"
        )
    return weights


def choose_tower_weights(
    weights: dict[str, Tensor], config: PretrainedConfig, clip: str, aux: str
) -> dict[str, Tensor]:
    """Completes the weights of MGM's checkpoint with those of the towers, and notes the ConvNeXt's shape in `config`.

    CLIP in the checkpoint goes before CLIP's own repository, whichever shard it lies in (the reference looks only into
    shards that hold other vision weights, too). ConvNeXt in the checkpoint is used when it was trained
    (`optimize_vision_tower_aux`), otherwise ignored, as in the reference.
    """
    own_aux = {key for key in weights if key.startswith(AUX_PREFIX)}
    if not (config.optimize_vision_tower_aux and own_aux):
        weights = {key: value for key, value in weights.items() if key not in own_aux} | read_open_clip(aux)
    if not any(key.startswith(CLIP_PREFIX) for key in weights):
        weights = weights | read_clip(clip)
    trunk = {key: value for key, value in weights.items() if key.startswith(AUX_PREFIX)}
    config.mm_aux_depths, config.mm_aux_dims = trunk_shape(trunk)
    return weights


def _open_clip_file(location: str) -> Path:
    if Path(location).is_dir():
        found = [path for path in (Path(location) / name for name in OPEN_CLIP_FILES) if path.is_file()]
        if not found:
            raise FileNotFoundError(f"{location} has neither {' nor '.join(OPEN_CLIP_FILES)}; download the tower again")
        return found[0]
    safetensors, pickled = OPEN_CLIP_FILES
    try:
        return Path(hf_hub_download(location, safetensors))
    except EntryNotFoundError:
        return Path(hf_hub_download(location, pickled))
