"""Writes the recorded tiny MGM in the layouts that hub repositories have."""

import json
from pathlib import Path
from shutil import copytree

import torch
from golden_cases import GOLDEN
from PIL import Image
from safetensors.torch import load_file, save_file

from flmm.models.loading import read_weights
from mgm.model import MGMGemmaForCausalLM
from mgm.model.checkpoint import read_clip, read_open_clip

GOLDEN_REPOSITORY = GOLDEN / "mgm_gemma_a/backbone"
CLIP, AUX = "openai-clip-tiny", "openclip-convnext-tiny-golden"


class Repository:
    """A writable copy with its weights at hand, to be changed and written anew."""

    def __init__(self, root: Path):
        copytree(GOLDEN_REPOSITORY, root, dirs_exist_ok=True)
        self.root, self.folder = root, root / "mgm"
        self.weights = {key: value.clone() for key, value in read_weights(self.folder).items()}
        for file in self.folder.glob("model*"):
            file.unlink()

    def write(self, layout: str = "model.safetensors", shards: int = 1) -> None:
        save = torch.save if layout.endswith(".bin") else save_file
        if shards == 1:
            return save(self.weights, self.folder / layout)
        stem, suffix = layout.split(".")
        names = [f"{stem}-{i + 1:05}-of-{shards:05}.{suffix}" for i in range(shards)]
        keys = sorted(self.weights)
        parts = {name: keys[i::shards] for i, name in enumerate(names)}
        for name, part in parts.items():
            save({key: self.weights[key] for key in part}, self.folder / name)
        weight_map = {key: name for name, part in parts.items() for key in part}
        (self.folder / f"{layout}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return None

    def open_clip_as_bin(self) -> None:
        path = self.root / AUX / "open_clip_model.safetensors"
        torch.save(load_file(path), path.with_name("open_clip_pytorch_model.bin"))
        path.unlink()

    def tower_weights(self) -> dict[str, torch.Tensor]:
        """The weights of both towers under their names in MGM."""
        return read_clip(str(self.root / CLIP)) | read_open_clip(str(self.root / AUX))

    def load(self, **kwargs) -> MGMGemmaForCausalLM:
        towers = {"mm_vision_tower": str(self.root / CLIP), "mm_vision_tower_aux": str(self.root / AUX)}
        return MGMGemmaForCausalLM.from_pretrained(str(self.folder), **{"dtype": torch.float32, **towers, **kwargs})


def picture(width: int = 60, height: int = 60) -> Image.Image:
    ramp = torch.arange(height * width * 3).view(height, width, 3) * 37 % 256
    return Image.fromarray(ramp.to(torch.uint8).numpy())
