"""Writes the recorded tiny MGM in the layouts that hub repositories have."""

from pathlib import Path
from shutil import copytree

import torch
from golden_cases import GOLDEN
from PIL import Image
from safetensors.torch import load_file
from weight_files import write_weights

from flmm.models.loading import read_weights
from mgm.model import MGMGemmaForCausalLM
from mgm.model.checkpoint import CLIP_PREFIX, read_clip, read_open_clip

GOLDEN_REPOSITORY = GOLDEN / "mgm_gemma_a/backbone"
CLIP, AUX = "openai-clip-tiny", "openclip-convnext-tiny-golden"


class Repository:
    """A writable copy with its weights at hand, to be changed and written again."""

    def __init__(self, root: Path):
        copytree(GOLDEN_REPOSITORY, root, dirs_exist_ok=True)
        self.root, self.folder = root, root / "mgm"
        self.weights = {key: value.clone() for key, value in read_weights(self.folder).items()}
        for file in self.folder.glob("model*"):
            file.unlink()

    def write(self, layout: str = "model.safetensors", shards: int = 1) -> None:
        write_weights(self.weights, self.folder, layout, shards)

    def open_clip_as_bin(self) -> None:
        path = self.root / AUX / "open_clip_model.safetensors"
        torch.save(load_file(path), path.with_name("open_clip_pytorch_model.bin"))
        path.unlink()

    def tower_weights(self) -> dict[str, torch.Tensor]:
        """The weights of both towers under their names in MGM, those of CLIP as transformers 4 had them."""
        clip = read_clip(str(self.root / CLIP))
        renamed = {key.replace(CLIP_PREFIX, f"{CLIP_PREFIX}vision_model."): value for key, value in clip.items()}
        return renamed | read_open_clip(str(self.root / AUX))

    def load(self, **kwargs) -> MGMGemmaForCausalLM:
        towers = {"mm_vision_tower": str(self.root / CLIP), "mm_vision_tower_aux": str(self.root / AUX)}
        return MGMGemmaForCausalLM.from_pretrained(str(self.folder), **{"dtype": torch.float32, **towers, **kwargs})


def picture(width: int = 60, height: int = 60) -> Image.Image:
    ramp = torch.arange(height * width * 3).view(height, width, 3) * 37 % 256
    return Image.fromarray(ramp.to(torch.uint8).numpy())
